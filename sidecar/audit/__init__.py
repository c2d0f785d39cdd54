"""The audit trail: events, and how they are written and delivered."""
