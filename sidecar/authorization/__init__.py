"""Enforce authorization: bring the facts to the decision, and hold everybody to it."""
