"""The command ``smart-imaging-sidecar``: ``serve``, ``check``, ``demo``, ``config``.

Exit codes: 0 fine, 1 ``check`` found something that does not work, 2 bad usage or configuration
(one line for each problem).

Each command imports what it needs: the process of `serve` stays small.
"""

import functools
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from sidecar import __version__
from sidecar.check import from_outside
from sidecar.telemetry.logs import configure_logs

if TYPE_CHECKING:
    from sidecar.settings.document import Settings

_CONFIG = click.option(
    "--config",
    "files",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path, readable=False),
    help="YAML file; repeatable, later files override. "
    "SIDECAR_<SECTION>__<KEY> in the environment overrides them.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="smart-imaging-sidecar")
def main() -> None:
    """Open a PACS's DICOMweb to SMART on FHIR apps, one patient at a time."""


@main.command(short_help="Run the sidecar.")
@_CONFIG
def serve(files: tuple[Path, ...]) -> None:
    """Run the sidecar in front of the EHR and the PACS that the configuration names."""
    from sidecar.server.command import serve as run  # noqa: PLC0415

    if problems := run(files):
        _fail(*problems)


@main.command(short_help="Say whether a configuration, the EHR and the PACS will do; or a server.")
@click.option(
    "--config",
    "files",
    multiple=True,
    type=click.Path(path_type=Path, readable=False),
    help="As for serve.",
)
@click.option(
    "--conformance",
    "url",
    metavar="URL",
    help="In place of a configuration: look at the server with this "
    "FHIR base from outside, requirement by requirement; it may be any.",
)
@from_outside.options
@click.option(
    "--token",
    metavar="TOKEN",
    envvar="SIDECAR_CHECK_TOKEN",
    help="A patient's access token: go an app's "
    "way with it, down to one instance. Better in the environment as SIDECAR_CHECK_TOKEN.",
)
@click.option("--json", "in_json", is_flag=True, help="Print the findings as JSON.")
@click.option("--verbose", is_flag=True, help="Write the JSON log to standard error, too.")
def check(
    files: tuple[Path, ...],
    url: str | None,
    token: str | None,
    in_json: bool,
    verbose: bool,
    **given: Any,
) -> None:
    """Look at everything that `serve` needs, and say what is wrong; or at any server from outside.

    The configuration, the EHR's discovery and introspection, our access to Patient, the PACS's
    QIDO-RS, its product, its paging; with --token also an app's way to one instance.

    Prints a table, with what to do about what is wrong; no patient and no secret is in it.
    docs/check.md has a heading for each finding, by its name. Exits with 1 when something does not
    work, with 2 when the configuration cannot be used.

    With --conformance and --token: a client of any SMART Imaging Access server, which looks from
    outside whether it keeps the requirements of docs/conformance.md. No configuration is needed.
    docs/conformance-kit.md is about this.
    """
    if url is not None and files:
        raise click.UsageError("Give one of --config and --conformance, not both.")
    if url is None and not files:
        raise click.UsageError("Either --config or --conformance is needed.")
    if url is not None:
        configure_logs("CRITICAL")
        try:
            is_fine = from_outside.check_from_outside(url, token, given, in_json=in_json)
            sys.exit(0 if is_fine else 1)
        except OSError as error:
            _fail(_description(error))
    if misplaced := from_outside.names(given):
        raise click.UsageError(f"{misplaced}: only with --conformance.")
    settings = _settings(files, in_json=in_json)

    from sidecar.check.run import check as check_settings  # noqa: PLC0415
    from sidecar.common import event_loop  # noqa: PLC0415

    configure_logs("INFO" if verbose else "CRITICAL")
    try:
        findings = event_loop.run(check_settings(settings, token))
    except (OSError, ValueError) as error:
        _fail(_description(error))
    from sidecar.conformance.finding import as_json, has_failed, table  # noqa: PLC0415

    click.echo(as_json(findings) if in_json else table(findings))
    sys.exit(1 if has_failed(findings) else 0)


@main.command(short_help="Run the whole journey here, with an embedded EHR and archive.")
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address of the sidecar and the EHR, and in their URLs; 0.0.0.0: all addresses. "
    "Other machines then reach the demo without a password. "
    "Archive and metrics stay on this machine.",
)
@click.option(
    "--port",
    default=8080,
    show_default=True,
    type=click.IntRange(1, 65_532),
    help="Port of the sidecar; "
    "the next three are the EHR's, the archive's and the admin listener's.",
)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of DICOM files for the archive; "
    "a new or empty one is filled with phantoms and pydicom's files "
    "[default: one that is deleted at the end]",
)
@click.option(
    "--pacs",
    "pacs_url",
    metavar="URL",
    help="A real PACS's DICOMweb root in place of the embedded archive.",
)
@click.option(
    "--dialect",
    type=click.Choice(("generic", "orthanc", "dcm4chee")),
    default="generic",
    show_default=True,
    help="The product behind --pacs.",
)
@click.option(
    "--write-config",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a configuration for its "
    "EHR and archive to this file, for `check` and `serve` beside it.",
)
@click.option("--no-open", is_flag=True, help="Do not open the page in a browser.")
@click.option("--verbose", is_flag=True, help="Write the sidecar's JSON log to standard error.")
def demo(
    host: str,
    port: int,
    data: Path | None,
    pacs_url: str | None,
    dialect: str,
    write_config: Path | None,
    no_open: bool,
    verbose: bool,
) -> None:
    """Run the whole journey here: an embedded EHR and archive, the sidecar, and a page."""
    if data and pacs_url:
        raise click.UsageError("--data is for the embedded archive, --pacs for another one")
    from sidecar.common import event_loop  # noqa: PLC0415

    try:
        from sidecar.demo.browser import open_page  # noqa: PLC0415
        from sidecar.demo.run import DemoArchive, run_demo  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as missing:
        _fail(f"demo needs {missing.name}: pip install '.[demo]' in the project's folder")
    configure_logs("INFO" if verbose else "WARNING")
    archive = DemoArchive(data, pacs_url, dialect, write_config)
    show = functools.partial(run_demo, echo=click.echo, open_page=None if no_open else open_page)
    try:
        event_loop.serve(lambda stop: show(host, port, archive, stop))
    except OSError as error:
        _fail(_description(error))
    except ValueError as error:
        _fail(f"cannot start: {error}")


@main.group()
def config() -> None:
    """Show the configuration's schema, or what a configuration comes to."""


@config.command()
def schema() -> None:
    """Print the JSON Schema of the configuration."""
    from sidecar.settings.adapter import ADAPTER  # noqa: PLC0415

    click.echo(json.dumps(ADAPTER.json_schema(), indent=2))


@config.command(
    short_help="Print the effective configuration, secrets masked; explain keys.",
    epilog="Example: smart-imaging-sidecar config show --explain limits.pacs",
)
@click.option(
    "--config",
    "files",
    multiple=True,
    type=click.Path(path_type=Path, readable=False),
    help="As for serve. --explain needs none.",
)
@click.option(
    "--explain",
    "key",
    metavar="KEY",
    help="Print what a key means in place of the configuration: description, type, unit, bounds, "
    "default, the effective value and where it was set. KEY may be a section, such as limits, or "
    "the beginning of keys, such as limits.pacs.",
)
def show(files: tuple[Path, ...], key: str | None) -> None:
    """Print the effective configuration as JSON, defaults filled in, secrets masked."""
    if not files and key is None:
        raise click.UsageError("Missing option '--config'.")
    from sidecar.settings.adapter import ADAPTER  # noqa: PLC0415

    if key is None:
        click.echo(ADAPTER.dump_json(_settings(files), indent=2))
        return
    from sidecar.settings.explain import explain  # noqa: PLC0415
    from sidecar.settings.load import ConfigurationError, read_document  # noqa: PLC0415

    try:
        text = explain(key, None)
    except ConfigurationError as error:
        _fail(*error.problems)
    problems: Sequence[str] = ()
    if files:
        try:
            text = explain(key, read_document(files, os.environ))
        except ConfigurationError as error:  # What keys mean helps to mend it.
            problems = error.problems
    click.echo(text)
    if problems:
        _fail(*problems)


@config.command("capability-key", short_help="Print a new key for capabilities.keys_file.")
def capability_key() -> None:
    """Print a new line for `capabilities.keys_file`: an id and a key.

    To change keys, put the new line first; take the old one away when
    `limits.capability_lifetime_seconds` have passed.
    """
    import secrets  # noqa: PLC0415 - it brings OpenSSL along
    from datetime import UTC, datetime  # noqa: PLC0415

    click.echo(f"{datetime.now(UTC):%Y%m%d}{secrets.token_hex(2)} {secrets.token_hex(32)}")


@config.command(
    "ehr-snippet", short_help="Print what the EHR's smart-configuration has to say of us."
)
@_CONFIG
def ehr_snippet(files: tuple[Path, ...]) -> None:
    """Print JSON for the EHR's .well-known/smart-configuration, by which apps find us (SIA-1)."""
    from sidecar.fhir import capability_statement  # noqa: PLC0415

    settings = _settings(files)
    offered = capability_statement.OfferedFeatures(
        app_launch=settings.access.app_launch, backend_services=settings.access.backend_services
    )
    snippet = capability_statement.ehr_snippet(settings.server.public_url + "/fhir", offered)
    click.echo(json.dumps(snippet, indent=2))


def _settings(files: tuple[Path, ...], *, in_json: bool = False) -> "Settings":
    from sidecar.settings.load import ConfigurationError, load_settings  # noqa: PLC0415

    try:
        return load_settings(files, os.environ)
    except ConfigurationError as error:
        if in_json:
            click.echo(json.dumps({"ok": False, "problems": list(error.problems)}, indent=2))
        _fail(*error.problems)


def _description(error: OSError | ValueError) -> str:
    text = getattr(error, "strerror", None) or str(error)
    filename = getattr(error, "filename", None)
    return f"{filename}: {text}" if filename else text


def _fail(*problems: str) -> NoReturn:
    for problem in problems:
        click.echo(problem, err=True)
    sys.exit(2)
