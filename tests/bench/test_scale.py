"""The command that calculates a region by the stored costs."""

import dataclasses

import pytest

from bench import scale
from bench.region import Region


def _output(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    monkeypatch.setattr("sys.argv", ["scale", *arguments])
    assert scale.main() == 0
    return capsys.readouterr().out


def test_inputs_are_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--patients", "5000", "--peak-requests", "50", "--frames", "5"]
    arguments += ["--balancing", "session", "--shared-tokens", "yes", "--utilisation", "0.5"]
    text = _output(arguments, monkeypatch, capsys)
    region = Region(patients=5_000, peak_requests=50, frames=5, utilisation=0.5)
    assert "**5,000 patients, 50 requests/s at peak**" in text
    assert f"| sessions that begin in a second | {region.sessions_per_second:.3g} |" in text
    assert "cores at 50% use" in text


def test_each_input_is_explained(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["scale", "--help"])
    with pytest.raises(SystemExit, match="0"):
        scale.main()
    text = capsys.readouterr().out
    for field in dataclasses.fields(Region):
        assert f"--{field.name.replace('_', '-')}" in text


def test_costs_that_were_not_measured_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scale, "load", lambda section: ({}, []))
    with pytest.raises(SystemExit, match="nothing is stored of small"):
        scale.measured_costs()
