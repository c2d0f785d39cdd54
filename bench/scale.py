"""Calculate what a region needs: cores, memory, questions to EHR and archive, and after a failure.

python -m bench scale [--patients N] [--peak-requests N] …

The costs of a request, of a gigabyte, and of memory are those stored in bench/results. What caches
keep from the EHR and the archive is simulated (``bench/caches.py``).
"""

import argparse
import sys
from dataclasses import fields, replace
from typing import get_args, get_type_hints

from bench import memory, search, small, streams
from bench.caches import Balancing
from bench.measurements import figure, load, table
from bench.peers import BARE, OPENIDC, OURS, TUNED
from bench.region import Costs, Region, failure, fleet, questions


def measured_costs(listed_studies: int = Region().listed_studies) -> Costs:
    """Return the costs that are stored."""
    cpu = _stored("small", small.ANSWERS, "frame of 5 KB", small.CPU)
    one, many = (_stored("small", small.TOKENS, each, small.CPU) for each in ("1", "100"))
    return Costs(
        frame=cpu / 1e6,
        gigabyte=_stored("streams", streams.STUDIES, "400 × 525 KB", streams.COST),
        search=_stored("search", search.WARM, f"{listed_studies}", search.CPU) / 1e3,
        cold_search=_stored("search", search.COLD, f"{listed_studies}", search.CPU) / 1e3,
        introspection=max(0.0, one - many) / 1e6,
        idle=_stored("start", memory.RESTING, memory.ALL, memory.MEGABYTES),
        token=_stored("memory", memory.TOKENS, "each", memory.A_TOKEN) / 1e6,
        listed_study=_stored("search", search.REMEMBERED, "each", search.A_STUDY) / 1e6,
        stream=_stored("memory", memory.WITH_SLOW, "100", memory.A_CLIENT) * 1_024 / 1e6,
    )


def _stored(section: str, group: str, case: str, metric: str, peer: str = OURS) -> float:
    for each in load(section)[1]:
        if (each.group, each.case, each.metric, each.peer) == (group, case, metric, peer):
            return each.median
    raise SystemExit(f"nothing is stored of {section}, {group}, {case}, {peer}: make bench")


def report(region: Region, costs: Costs) -> str:
    """Return Markdown: the fleet, what is asked, failures, and what a million requests cost."""
    return "\n\n".join(
        [
            _report_fleet(region, costs),
            _report_questions(region, costs),
            _report_failures(region, costs),
            _report_costs(region),
        ]
    )


def capacity(region: Region, costs: Costs) -> str:
    """Return Markdown: what one worker does at peak, and what its memory is for."""
    large = costs.frame + region.frame_kilobytes / 1e6 * costs.gigabyte
    each_second = {
        "frames of 5 KB a second": 1 / costs.frame,
        f"frames of {region.frame_kilobytes:g} KB a second": 1 / large,
        "MB of whole studies a second": 1e3 / costs.gigabyte,
        f"searches of {region.listed_studies} studies a second, known ones": 1 / costs.search,
        "the same, asked of the archive": 1 / costs.cold_search,
    }
    megabytes = {
        "MB at rest, with the supervisor": costs.idle,
        "MB for 100 transfers to slow clients": 100 * costs.stream,
        "MB for 1,000 tokens": 1_000 * costs.token,
        "MB for 1,000 studies in remembered lists": 1_000 * costs.listed_study,
    }
    used = {what: region.utilisation * number for what, number in each_second.items()}
    rows = [[what, figure(number)] for what, number in (used | megabytes).items()]
    return table([f"one worker, {region.utilisation:.0%} of a core used", ""], rows)


def _report_fleet(region: Region, costs: Costs) -> str:
    needed = fleet(region, costs)
    sessions = region.sessions_per_second
    rows = [[f"cores for {what}", figure(cores)] for what, cores in needed.cores.items()]
    cores = sum(needed.cores.values()) / region.utilisation
    days = region.patients / sessions / 86_400
    rows += [
        [f"cores at {region.utilisation:.0%} use", figure(cores)],
        [f"replicas of {region.workers} workers, one of them to spare", f"{needed.replicas}"],
        ["memory of a replica, MB", figure(needed.megabytes)],
        ["memory of all, GB", figure(needed.megabytes * needed.replicas / 1e3)],
        ["sessions that begin in a second", figure(sessions)],
        ["sessions at once", figure(sessions * region.session_seconds)],
        ["days between two sessions of a patient, were it always peak", figure(days)],
    ]
    title = f"**{region.patients:,} patients, {region.peak_requests:,.0f} requests/s at peak**"
    return f"{title}\n\n" + table(["", ""], rows)


def _report_questions(region: Region, costs: Costs) -> str:
    workers = fleet(region, costs).replicas * region.workers
    rows = []
    for balancing in Balancing:
        for shared in (False, True):
            asked = questions(replace(region, balancing=balancing, shared_tokens=shared), workers)
            rows.append(
                [
                    f"by {balancing}",
                    "shared" if shared else "each worker's",
                    *map(
                        figure,
                        (
                            asked.introspections,
                            asked.list_queries,
                            asked.owner_queries,
                            asked.instances,
                        ),
                    ),
                    f"{asked.token_hits:.1%}",
                    f"{asked.owner_hits:.1%}",
                ]
            )
    head = ["balanced", "token cache", "introspections/s", "QIDO/s for lists", "QIDO/s for owners"]
    head += ["instances looked into/s", "token hits", "owner hits"]
    return f"**What {workers} workers ask of EHR and archive**\n\n" + table(head, rows)


def _report_failures(region: Region, costs: Costs) -> str:
    replicas = fleet(region, costs).replicas
    steady = questions(region, replicas * region.workers).queries
    rows = []
    for capacity in (region.archive_queries, steady * 1.1):
        for what, lost in (("one replica is lost", 1), ("all begin with empty caches", replicas)):
            failed = failure(replace(region, archive_queries=capacity), replicas, lost=lost)
            rows.append(
                [
                    f"{what}, archive of {figure(capacity)} queries/s",
                    figure(failed.queries),
                    figure(failed.introspections),
                    figure(failed.instances),
                    figure(failed.first_second),
                    figure(failed.at_once),
                    figure(failed.seconds),
                    f"{failed.refused:.0%}",
                ]
            )
    head = ["", "QIDO more in 10 s", "introspections more", "instances looked into more"]
    head += ["QIDO in the first second", "of these at the archive at once, at most"]
    head += ["seconds until all are answered", "refused (503)"]
    return "**After a failure**\n\n" + table(head, rows)


def _report_costs(region: Region) -> str:
    rows = []
    for peer in (TUNED, OPENIDC, BARE, OURS):
        try:
            frame = _stored("small", small.ANSWERS, "frame of 5 KB", small.CPU, peer)
            gigabyte = _stored("streams", streams.STUDIES, "400 × 525 KB", streams.COST, peer)
        except SystemExit:
            continue  # It was not installed.
        large = frame + region.frame_kilobytes / 1e6 * gigabyte * 1e6
        rows.append([peer, *(figure(each / 3_600) for each in (frame, large, gigabyte * 1e3))])
    head = ["CPU hours", "a million frames of 5 KB", f"of {region.frame_kilobytes:g} KB"]
    return table([*head, "a terabyte of studies"], rows)


def main() -> int:
    """Print the report for the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    hints = get_type_hints(Region, include_extras=True)
    for each in fields(Region):
        kind, help_ = get_args(hints[each.name])
        parser.add_argument(
            f"--{each.name.replace('_', '-')}",
            type=_boolean if kind is bool else kind,
            default=each.default,
            help=f"{help_} (default: %(default)s)",
        )
    region = Region(**vars(parser.parse_args()))
    print(report(region, measured_costs(region.listed_studies)))
    return 0


def _boolean(text: str) -> bool:
    return text.lower() in ("true", "yes", "1")


if __name__ == "__main__":
    sys.exit(main())
