"""The short form for CI: how much cheaper others are than ours, and whether that grew.

Times differ from machine to machine, and from minute to minute. So each round measures the CPU of a
pair, one beside the other, and what is compared with the stored one is the median of the quotients.
They differ from processor to processor, too: ``bench/results/ratios-*.json`` are of others than
``ratios.json``. A processor of which nothing is stored is compared with the least.
"""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial

from bench import measurements
from bench.archive import Shape, archive
from bench.load import FHIR, FRAME, Connection, download, headers, many
from bench.measurements import Samples, figure, load
from bench.peers import ORTHANC, Peer, missing, prepare, site
from bench.processes import machine
from bench.progress import progress
from bench.search import PATIENT, loaded_orthanc
from tests.fakes import ehr

GROUP, RATIO, PEER = "CPU of others over CPU of ours", "ratio", "ratio"
ROUNDS = 7
LEAST = 0.75
"""A ratio that is less than this part of the stored one has fallen too far."""
SHAPES = (Shape(instances=400, side=512), Shape(instances=3_400, side=170))
Cost = Callable[[], float]


def measure(rounds: int, samples: Samples) -> None:
    """Measure the pairs, at least seven times each."""
    with contextlib.ExitStack() as stack:
        pairs = [*stack.enter_context(_proxies()), *stack.enter_context(_searches())]
        for number in range(max(rounds, ROUNDS)):
            progress("ratios", number, max(rounds, ROUNDS))
            for name, other, ours in pairs:
                samples.add(GROUP, name, PEER, RATIO, other() / ours())


def compare(samples: Samples) -> bool:
    """Print the measured ratios beside the stored ones.

    Return whether they are the same ones, and none has fallen too far.
    """
    stored = _stored()
    measured = {each.case: each for each in samples.measurements()}
    good = True
    for case in stored | measured:
        before, now = stored.get(case), measured.get(case)
        is_good = before is not None and now is not None and now.median >= LEAST * before
        good = good and is_good
        texts = (
            "not measured" if now is None else now.text(),
            "nothing stored" if before is None else f"stored: {figure(before)}",
            "" if is_good else "FALLEN" if before and now else "NOT COMPARED",
        )
        print("{:52} {:24} {:16} {}".format(case, *texts))
    return good


def _stored() -> dict[str, float]:
    """Return the least ratio of each case that was stored on such a processor, or on any."""
    sections = [load(file.stem) for file in sorted(measurements.RESULTS.glob("ratios*.json"))]
    ours = machine()["processor"]
    same = [each for each in sections if each[0].get("processor") == ours]
    ratios: dict[str, float] = {}
    for _, section in same or sections:
        for each in section:
            ratios[each.case] = min(each.median, ratios.get(each.case, each.median))
    return ratios


def main() -> int:
    """Measure and compare; 1 where a ratio has fallen too far, or was not compared."""
    prepare()
    measure(ROUNDS, samples := Samples())
    return 0 if compare(samples) else 1


@contextlib.contextmanager
def _proxies() -> Iterator[list[tuple[str, Cost, Cost]]]:
    with archive(SHAPES) as upstream, site(upstream.url) as starting:
        bare, ours = starting.bare(), starting.ours()
        frame = upstream.studies[1].instance + "/frames/1"

        def study(peer: Peer, index: int) -> float:
            of = upstream.studies[index]
            return download(peer, f"/studies/{of.uid}", of.size).cpu

        costs: dict[str, Callable[[Peer], float]] = {
            "frame of 5 KB, bare aiohttp": lambda peer: _cost(peer, frame, FRAME),
            "study of 400 × 525 KB, bare aiohttp": partial(study, index=0),
            "study of 3,400 × 60 KB, bare aiohttp": partial(study, index=1),
        }
        for cost in costs.values():  # For imports, caches, pools.
            cost(bare), cost(ours)
        yield [(name, partial(cost, bare), partial(cost, ours)) for name, cost in costs.items()]


@contextlib.contextmanager
def _searches() -> Iterator[list[tuple[str, Cost, Cost]]]:
    if ORTHANC in missing():
        print(f"without searches: {missing()[ORTHANC]}")
        yield []
        return
    with loaded_orthanc((50,)) as orthanc, site(orthanc.dicomweb_url) as starting:
        ours = starting.ours().fhir()
        patient = PATIENT.format(50)
        Connection(ours).seconds("/ImagingStudy", headers(FHIR, patient))
        yield [
            (
                "search of 50 studies, warm, our constant answer",
                partial(_cost, ours, "/metadata", FHIR, connections=4),
                partial(_cost, ours, "/ImagingStudy", FHIR, connections=4, token=patient),
            )
        ]


def _cost(
    peer: Peer, path: str, accept: str, connections: int = 32, token: str = ehr.PATIENT
) -> float:
    """Return CPU seconds a request."""
    done = many(peer, path, accept, seconds=1, connections=connections, token=token)
    return done.cpu / done.answers
