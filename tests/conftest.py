"""What holds for all tests."""

from tests.stalls import pytest_terminal_summary

__all__ = ["pytest_terminal_summary"]
