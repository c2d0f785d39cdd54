"""What every shared store of the catalog must stand, whatever it is made of."""

import threading
from collections.abc import Callable

from sidecar.fhir.catalog.catalog import Store


def exchange_at_once(open_store: Callable[[], Store], *, steps: int) -> list[dict[str, int]]:
    """Three replicas exchange one patient's list, each ``steps`` times; return what each exchange
    said.
    """
    results: list[dict[str, int]] = []

    def work(number: int) -> None:
        store = open_store()
        results.extend(
            store.exchange("shared", {"1.0": b"x"}, number * 1_000 + step) for step in range(steps)
        )
        store.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for one in threads:
        one.join()
    return results
