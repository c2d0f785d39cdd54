"""The command ``serve``: a supervisor, whose children alone import what reads and serves."""

import contextlib
import gc
from collections.abc import Sequence
from pathlib import Path

from sidecar.server.child import Channel
from sidecar.server.shared_folder import shared_folder
from sidecar.server.supervisor import Supervisor
from sidecar.server.worker_process import WorkerTask
from sidecar.telemetry.logs import configure_logs


def serve(files: Sequence[Path]) -> Sequence[str]:
    """Serve until a signal ends it. Return why it could not start, a line each."""

    def load(channel: Channel) -> int:
        gc.disable()  # It ends soon.
        from sidecar.server.load import load as run  # noqa: PLC0415 - in the child alone

        return run(files, channel)

    def work(task: WorkerTask, channel: Channel) -> int:
        gc.disable()  # What is imported stays; ``keep_imported`` collects from then on.
        from sidecar.server.worker import work as run  # noqa: PLC0415 - in the child alone

        return run(task, channel)

    configure_logs()
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(shared_folder())
        except OSError as error:
            return [f"no folder that workers can share: {error.filename}: {error.strerror}"]
        supervisor = Supervisor(load, work, files, folder)
        supervisor.run()
    return supervisor.problems
