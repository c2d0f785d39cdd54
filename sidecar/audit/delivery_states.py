"""The states of the delivery, and which one follows which result."""

from enum import Enum


class DeliveryState(Enum):
    """What is tried next."""

    SENDING = "send the oldest events"
    REPEATING = "send them once more: one of several servers may be down"
    NARROWING = "send half of them: one of them, or their number, may be the cause"
    RETRYING = "pause, then send the oldest event alone"
    PROBING = "send a later event: does the server fail, or does it fail with the oldest alone?"


class StepResult(Enum):
    """How the try of a state ended."""

    NOTHING = "no event waits"
    TAKEN = "events were taken, or rejected for good"
    TOO_MUCH = "the batch was rejected as a whole"
    FAILED = "no event of several is known to be taken"
    FAILED_ALONE = "the one event is not known to be taken"
    BARRED = "nothing can be taken now: Retry-After, the disk, an error of ours"


_TABLE = """
            NOTHING  TAKEN    TOO_MUCH   FAILED     FAILED_ALONE  BARRED
SENDING     SENDING  SENDING  NARROWING  REPEATING  REPEATING     RETRYING
REPEATING   SENDING  SENDING  NARROWING  NARROWING  RETRYING      RETRYING
NARROWING   SENDING  SENDING  NARROWING  NARROWING  RETRYING      RETRYING
RETRYING    SENDING  SENDING  PROBING    PROBING    PROBING       RETRYING
PROBING     SENDING  SENDING  RETRYING   RETRYING   RETRYING      RETRYING
"""
_HEAD, *_ROWS = map(str.split, _TABLE.strip().splitlines())
TRANSITIONS = {
    DeliveryState[state]: {
        StepResult[result]: DeliveryState[name] for result, name in zip(_HEAD, names, strict=True)
    }
    for state, *names in _ROWS
}
"""The next state, by state and result."""
