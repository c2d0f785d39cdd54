"""Settings of this folder."""

from hypothesis import settings

# How fast an example runs says nothing here; a busy machine must not fail a test.
settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")
