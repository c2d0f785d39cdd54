"""The settings of capability URLs (``capabilities``)."""

import re
from pathlib import Path
from typing import Annotated, Literal

from sidecar.settings.section import Section
from sidecar.settings.types import AT_LEAST_ONE, before, checked, needs_each_other, read_text

_LINE = re.compile(r"(?P<key_id>[A-Za-z0-9]{1,16})\s+(?P<secret>[0-9A-Fa-f]{64})", re.ASCII)
LIVE_KEYS = 2


def keys_in(file: Path) -> list[tuple[str, bytes]]:
    """Return the ids and keys in a file. The first key seals.

    Each line is ``<key id> <64 hexadecimal digits>``. Empty lines and lines that begin with ``#``
    are skipped. Raises ``ValueError`` with a reason that shows no key.
    """
    lines = [line.strip() for line in read_text(file).splitlines()]
    matches = [_LINE.fullmatch(line) for line in lines if line and not line.startswith("#")]
    if None in matches:
        raise ValueError(
            "a line is not: an id of letters and digits, a space, 64 hexadecimal digits"
        )
    keys = [(line["key_id"], bytes.fromhex(line["secret"])) for line in matches if line is not None]
    if not 1 <= len(keys) <= LIVE_KEYS or len(dict(keys)) < len(keys):
        raise ValueError("must have one key, or two with different ids while keys are changed")
    return keys


def _mode(value: object) -> object:
    return "off" if value is False else value  # YAML reads an unquoted off as false.


class CapabilitySettings(Section):
    """Addresses that permit a study together with their token."""

    mode: Annotated[Literal["off", "token_bound"], before(_mode)] = "off"
    """off: apps use the standing Endpoint with their token.

    token_bound: each study has an address of its own, which works only with that token.
    """
    keys_file: Annotated[Path, checked(keys_in)] | None = None
    """File with one or two keys, each on a line: `<id> <64 hexadecimal digits>`.

    The first key seals; both open.
    """
    operations: Annotated[tuple[Literal["retrieve", "query"], ...], AT_LEAST_ONE] = (
        "retrieve",
        "query",
    )
    """What an address permits: retrieve is WADO-RS, query is QIDO-RS below the study."""

    def __post_init__(self) -> None:
        needs_each_other(
            "mode token_bound",
            is_chosen=self.mode == "token_bound",
            key="keys_file",
            value=self.keys_file,
        )
