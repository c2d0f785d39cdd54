"""Archives whose counts change while they are read."""

import asyncio

from tests.fakes.archive import Answer, ScriptedPacs
from tests.fakes.retrievals import answer, chunked


def framed(head: bytes, body: bytes, framing: str) -> Answer:
    """An answer in each of the ways in which an archive may send it."""
    match framing:
        case "content-length":
            return answer(head + b"Content-Length: %d\r\n" % len(body), body)
        case "chunked":
            return answer(head + b"Transfer-Encoding: chunked\r\n", chunked(body))
    return answer(head + b"Connection: close\r\n", body)


class Corrected(ScriptedPacs):
    """Has ``first`` instances before it is asked for them, and ``then`` afterwards; ``None``: they
    are another's.
    """

    def __init__(
        self, retrieve: Answer, first: int | None, then: int | None, *, listed: int = 1
    ) -> None:
        async def write(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.instances = then
            if first is not None and then is None:
                self.patient_id = "somebody-else"
            await retrieve(reader, writer)

        super().__init__(write, instances=first, listed=listed)


# What the archive counts before, how many it sends, what it counts then (``None``: the study is
# another patient's); whether the answer is a whole one.
COUNTS: dict[str, tuple[int, int, int | None, bool]] = {
    "nothing happened": (40, 40, 40, True),
    # Those that went had not been sent: it is the study as it is now.
    "some went": (40, 24, 24, True),
    "some went that had been sent": (40, 24, 20, False),
    "some went that had been listed": (40, 24, 40, False),
    "one went": (40, 39, 38, False),
    "it became another patient's": (40, 24, None, False),
    "some came while it was sent": (40, 40, 60, True),
    "some came before it was listed": (40, 50, 60, True),
    "some came, and as many are sent": (40, 60, 60, True),
    "fewer than before, although some came": (40, 39, 60, False),
    "more than there ever were": (40, 61, 60, False),
}
