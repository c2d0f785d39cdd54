"""Measure beside real peers, interleaved in one run, and store tables and plots.

Without a section all of them are measured, in some twelve minutes on two idle cores. What is stored
in bench/results is replaced section by section, and with it the tables of docs/performance.md.

sections:
  small      CPU, rate and latency of a frame; by connections, by requests of each token
  search     ImagingStudy searches, warm and cold, beside Orthanc's QIDO-RS; stalls of others
  streams    throughput and CPU by form and size of a study; frames beside downloads
  memory     slow clients, and what is kept after them; tokens
  start      start to ready, memory at rest
  ratios     what `ci` compares with

programs (refusals, scale and workers have a --help of their own):
  ci         compare the ratios with the stored ones; exit 1 where one fell by over a quarter
  report     write tables, plots and the document again, of what is stored
  scale      calculate what a region needs, by the stored costs
  audit      CPU of an audit event
  refusals   whether refusals tell by time what exists
  workers    1, 2 and 4 workers, and how connections spread over them
"""

import argparse
import importlib
import sys

from bench import memory, ratios, report, search, small, streams
from bench.measurements import Samples, store
from bench.peers import prepare
from bench.processes import machine

SECTIONS = {
    "small": small.measure,
    "search": search.measure,
    "streams": streams.measure,
    "memory": memory.measure,
    "start": memory.measure_start,
    "ratios": ratios.measure,
}
PROGRAMS = {"ci": "ratios"} | {
    name: name for name in ("audit", "refusals", "report", "scale", "workers")
}


def main() -> int:
    """Run what the arguments name."""
    if sys.argv[1:2] and sys.argv[1] in PROGRAMS:
        program = importlib.import_module(f"bench.{PROGRAMS[sys.argv.pop(1)]}")
        return int(program.main())
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="python -m bench [SECTION ...] [--rounds N]",
    )
    parser.add_argument("sections", nargs="*", metavar="SECTION")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    arguments = parser.parse_args()
    if unknown := set(arguments.sections) - SECTIONS.keys():
        parser.error(f"no such section: {', '.join(unknown)}")
    description = machine()
    prepare()
    for name in arguments.sections or SECTIONS:
        SECTIONS[name](arguments.rounds, samples := Samples())
        if measured := samples.measurements():  # Else it needs what is missing.
            store(name, description, measured)
    report.write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
