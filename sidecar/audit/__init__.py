"""The audit trail: what is recorded, kept and delivered."""
