"""Viewers from npm, and what they look at."""
