"""The demo's EHR, running, for every test here that asks for it."""

from tests.demo.ehr_server import ehr, session

__all__ = ["ehr", "session"]
