"""A real Ory Hydra: its module, and how the tests run it."""
