"""Capability URLs: a part of the configuration."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from sidecar.settings.types import Seconds, Section, read_text

_LINE = re.compile(r"(?P<key_id>[A-Za-z0-9]{1,16})\s+(?P<secret>[0-9A-Fa-f]{64})", re.ASCII)
LIVE_KEYS = 2


def keys_in(file: Path) -> list[tuple[str, bytes]]:
    """Return the keys of a file: ``<key id> <64 hexadecimal digits>`` on each line, the first one seals.

    Empty lines and those that begin with ``#`` do not count. Raises ``ValueError`` with a reason
    that shows no key.
    """
    lines = [line.strip() for line in read_text(file).splitlines()]
    found = [_LINE.fullmatch(line) for line in lines if line and not line.startswith("#")]
    if None in found:
        raise ValueError(
            "a line is not: an id of letters and digits, a space, 64 hexadecimal digits"
        )
    keys = [(one["key_id"], bytes.fromhex(one["secret"])) for one in found if one is not None]
    if not 1 <= len(keys) <= LIVE_KEYS or len(dict(keys)) < len(keys):
        raise ValueError("must have one key, or two with different ids while keys are changed")
    return keys


def _usable(file: Path) -> Path:
    keys_in(file)
    return file


def _mode(value: object) -> object:
    if value == "bearer":
        raise ValueError(
            "bearer is no more: an address works with its token alone; set token_bound (or off), and take "
            "recheck_seconds away"
        )
    return "off" if value is False else value  # YAML reads an unquoted off as false.


class CapabilitySettings(Section):
    """Addresses that are permissions, together with a token."""

    mode: Annotated[Literal["off", "token_bound"], BeforeValidator(_mode)] = Field(
        "off",
        description="off: apps use the standing Endpoint with their token; token_bound: an address for each study, "
        "which works with that token alone",
    )
    keys_file: Annotated[Path, AfterValidator(_usable)] | None = Field(
        None,
        description="Keys, one or two lines of `<id> <64 hexadecimal digits>`; the first seals, both open",
    )
    lifetime_seconds: Seconds = Field(
        300, description="How long an address is good, never longer than its token"
    )
    operations: Annotated[list[Literal["retrieve", "query"]], Field(min_length=1)] = Field(
        ["retrieve", "query"], description="What it is for: WADO-RS, QIDO-RS below the study"
    )

    @model_validator(mode="after")
    def _needs_keys(self) -> "CapabilitySettings":
        if (self.mode == "off") != (self.keys_file is None):
            raise ValueError(
                "mode token_bound needs keys_file, and keys_file needs mode token_bound"
            )
        return self
