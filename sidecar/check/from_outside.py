"""The part of the command ``check`` that looks at any server from outside: options, outputs."""

import sys
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sidecar import __version__
from sidecar.conformance.levels import Guide

if TYPE_CHECKING:
    from sidecar.conformance.finding import Finding
    from sidecar.conformance.run import ServerUnderTest

_KIT = f"smart-imaging-sidecar {__version__}"
_FILE = click.Path(dir_okay=False, path_type=Path)


def _token(name: str, what: str) -> Callable[..., Any]:
    variable = f"SIDECAR_CHECK_{name.upper()}_TOKEN"
    text = f"With --conformance: {what}, for more checks. Better in the environment as {variable}."
    return click.option(f"--{name}-token", metavar="TOKEN", envvar=variable, help=text)


_OPTIONS = [
    click.option(
        "--guide",
        type=click.Choice([guide.value for guide in Guide]),
        help="With --conformance: the text of the guide; 2026-08 for older servers "
        f"[default: {Guide.SEPTEMBER}].",
    ),
    click.option(
        "--patient",
        metavar="ID",
        help="With --conformance: the FHIR id of the token's patient, where the token does not "
        "tell it. A terminal is asked for it.",
    ),
    click.option(
        "--origin",
        metavar="URL",
        help="With --conformance: the origin of an app's pages, where CORS is for the apps' alone.",
    ),
    _token("other", "a second patient's access token"),
    _token("backend", "a Backend Services client's access token"),
    _token("expired", "an access token that was good once"),
    click.option(
        "--other-patient",
        metavar="ID",
        help="With --conformance: the FHIR id of the patient of --other-token.",
    ),
    click.option("--html", type=_FILE, help="With --conformance: write one page to this file."),
    click.option("--junit", type=_FILE, help="With --conformance: write JUnit XML to this file."),
]


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that go with ``--conformance``."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def names(given: dict[str, Any]) -> str:
    """Return the options that were given on the command line, as they are written."""
    context = click.get_current_context()
    typed = click.core.ParameterSource.COMMANDLINE
    return ", ".join(
        f"--{name.replace('_', '-')}"
        for name in given
        if context.get_parameter_source(name) is typed
    )


def check_from_outside(
    base: str, token: str | None, given: dict[str, Any], *, in_json: bool
) -> bool:
    """Check a server, print the findings, write the files; return whether there is no problem.

    ``given`` has the values of ``options``. Raises ``click.UsageError``, ``OSError``.
    """
    from sidecar.common import event_loop  # noqa: PLC0415
    from sidecar.conformance.finding import as_json, has_failed, table  # noqa: PLC0415
    from sidecar.conformance.run import conformance  # noqa: PLC0415

    server = _server(base, token, given)
    findings = event_loop.run(conformance(server))
    about = {"kit": _KIT, "base": server.base, "guide": str(server.guide)}
    click.echo(as_json(findings, **about) if in_json else table(findings))
    _write(server, findings, given)
    return not has_failed(findings)


def _server(base: str, token: str | None, given: dict[str, Any]) -> "ServerUnderTest":
    from sidecar.conformance.client import is_base, is_token  # noqa: PLC0415
    from sidecar.conformance.reading import patient_in  # noqa: PLC0415
    from sidecar.conformance.run import ServerUnderTest  # noqa: PLC0415

    if given["origin"] is not None and not is_base(given["origin"]):
        raise click.UsageError("--origin is http(s)://host")
    if not is_base(base):
        raise click.UsageError(
            "--conformance is a FHIR base: http(s)://host/path, without query and user"
        )
    known = {field.name for field in fields(ServerUnderTest)} & given.keys() - {"guide"}
    values = {"token": token, **{name: given[name] for name in known}}
    values = {name: value.strip() for name, value in values.items() if value is not None}
    for name in values:
        if name.endswith("token") and not is_token(values[name]):
            raise click.UsageError(
                f"--{name.replace('_', '-')} has characters that no token has (RFC 6750 2.1): "
                "was it copied whole?"
            )
    for name in ("patient", "other_patient"):
        if name in values:
            values[name] = _patient(values[name], f"--{name.replace('_', '-')}")
    server = ServerUnderTest(base, guide=Guide(given["guide"] or Guide.SEPTEMBER), **values)
    if len(set(server.tokens)) < len(server.tokens):
        raise click.UsageError("the same token was given for two options")
    token = server.token or server.backend_token
    unknown = token and server.patient is None and patient_in(token) is None
    if unknown and sys.stdin.isatty():
        question = "FHIR id of the token's patient (empty: it is sought by a search)"
        answer = click.prompt(question, default="", show_default=False, err=True).strip()
        server = replace(server, patient=_patient(answer, "the patient") if answer else None)
    return server


def _patient(text: str, what: str) -> str:
    from sidecar.conformance.reading import read_patient  # noqa: PLC0415

    patient = read_patient(text)
    if patient is None:
        raise click.UsageError(f"{what} is a FHIR id, such as 123 or Patient/123")
    return patient


def _write(server: "ServerUnderTest", findings: "list[Finding]", given: dict[str, Any]) -> None:
    from sidecar.conformance import report  # noqa: PLC0415

    now = datetime.now(UTC)
    if given["html"] is not None:
        page = report.html(server.base, server.guide, findings, now, _KIT)
        given["html"].write_text(page, encoding="utf-8")
    if given["junit"] is not None:
        suite = report.junit(server.base, server.guide, findings, _KIT)
        given["junit"].write_text(suite, encoding="utf-8")
