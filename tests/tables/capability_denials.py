"""Denials by capability URLs: what is presented, and the reason."""

import math
from dataclasses import replace

from sidecar.access.permits import Capability, Operation, token_hash
from sidecar.access.reasons import Reason

NOW = 1_700_000_000.0
EVERYTHING = frozenset(Operation)
BEARER = "a-recognizable-token"
CAPABILITY = Capability("p1", "1.2.3", EVERYTHING, NOW + 60, token_hash(BEARER))
RETRIEVE, QUERY = Operation.RETRIEVE, Operation.QUERY
SHOWN, OTHER = token_hash(BEARER), token_hash("another")
CAPABILITY_DENIALS: list[tuple[Capability, str | None, Operation, bytes, float, Reason]] = [
    (CAPABILITY, "1.2.3", RETRIEVE, SHOWN, NOW + 60, Reason.EXPIRED_CAPABILITY),
    (CAPABILITY, "1.2.3", RETRIEVE, SHOWN, NOW + 31_536_000, Reason.EXPIRED_CAPABILITY),
    (CAPABILITY, "1.2.3", RETRIEVE, SHOWN, math.nan, Reason.EXPIRED_CAPABILITY),
    (
        replace(CAPABILITY, expires_at=math.nan),
        "1.2.3",
        RETRIEVE,
        SHOWN,
        NOW,
        Reason.EXPIRED_CAPABILITY,
    ),
    (CAPABILITY, "1.2.3", RETRIEVE, OTHER, NOW, Reason.OTHER_TOKEN),
    (CAPABILITY, "1.2.3", RETRIEVE, token_hash(""), NOW, Reason.OTHER_TOKEN),
    (CAPABILITY, "1.2.3", RETRIEVE, b"", NOW, Reason.OTHER_TOKEN),
    (CAPABILITY, "1.2.4", RETRIEVE, SHOWN, NOW, Reason.ABSENT),
    (CAPABILITY, "1.2.3.1", QUERY, SHOWN, NOW, Reason.ABSENT),
    (
        replace(CAPABILITY, operations=frozenset({RETRIEVE})),
        "1.2.3",
        QUERY,
        SHOWN,
        NOW,
        Reason.NOT_IN_CAPABILITY,
    ),
    (
        replace(CAPABILITY, operations=frozenset({QUERY})),
        "1.2.3",
        RETRIEVE,
        SHOWN,
        NOW,
        Reason.NOT_IN_CAPABILITY,
    ),
    (
        replace(CAPABILITY, operations=frozenset()),
        None,
        QUERY,
        SHOWN,
        NOW,
        Reason.NOT_IN_CAPABILITY,
    ),
]
