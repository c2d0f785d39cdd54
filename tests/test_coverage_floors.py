"""The coverage's floors fail what is below them, and say when they can be raised."""

from tests.coverage_floors import verdicts


def _file(run: int, of: int) -> dict[str, dict[str, int]]:
    return {
        "summary": {
            "covered_lines": run,
            "num_statements": of,
            "covered_branches": 0,
            "num_branches": 0,
        }
    }


FILES = {
    "sidecar/a/x.py": _file(10, 10),
    "sidecar/a/y.py": _file(9, 10),
    "sidecar/b.py": _file(0, 5),
}


def test_a_floor_that_is_not_reached_fails() -> None:
    assert verdicts({"sidecar": 77.0}, FILES) == (
        ["sidecar: the floor is 77.0, measured 76.00"],
        [],
    )
    assert verdicts({"sidecar/a": 95.01}, FILES)[0]


def test_a_floor_that_is_reached_passes() -> None:
    assert verdicts({"sidecar": 76.0, "sidecar/a": 94.6}, FILES) == ([], [])


def test_a_floor_that_is_too_low_can_be_raised() -> None:
    assert verdicts({"sidecar/a": 94.5}, FILES) == (
        [],
        ["sidecar/a: the floor is 94.5, measured 95.00: raise it"],
    )


def test_a_folder_that_is_not_there_is_not_covered() -> None:
    assert verdicts({"sidecar/gone": 100.0}, FILES)[0]
