"""A run's findings as files: JUnit XML for build servers, and one page of HTML for people.

The page needs no other file, no script and no network: it can be mailed.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from html import escape
from xml.etree import ElementTree

from sidecar.conformance.finding import Finding, State, printable, summary
from sidecar.conformance.levels import TEXTS, Guide, RequirementLevel

_GROUPS = {
    State.FAIL: ("Problems", "A SHALL of the guide is not kept."),
    State.WARN: ("Remarks", "Another level is not kept. It breaks nothing that the guide demands."),
    State.OK: ("Kept", "What was seen is what is demanded."),
    State.SKIP: ("Not tested", "Nothing is known of these, for better or worse."),
}
_STYLE = """
:root { color-scheme: light dark; --line: #8886; --fail: #b3261e; --warn: #8a5a00; --ok: #146c2e }
@media (prefers-color-scheme: dark) { :root { --fail: #ff8a80; --warn: #ffc266; --ok: #7ddc95 } }
body { font: 1rem/1.45 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem;
  overflow-wrap: anywhere }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2rem }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem }
dd { margin: 0 }
ul { list-style: none; padding: 0 }
li { border-top: 1px solid var(--line); padding: .5rem 0; break-inside: avoid }
li p { margin: .2rem 0 0 }
small { white-space: nowrap; border: 1px solid var(--line); border-radius: .3rem; padding: 0 .3rem }
.fail h2, .fail b { color: var(--fail) } .warn h2, .warn b { color: var(--warn) }
.ok h2 { color: var(--ok) }
@media print { body { max-width: none; padding: 0 } h2 { break-after: avoid } }
"""


def html(base: str, guide: Guide, findings: Sequence[Finding], when: datetime, kit: str) -> str:
    """Return a page on the server whose FHIR base is ``base``, the worst first.

    ``kit`` is the kit's name and version.
    """
    about = {
        "FHIR base": base,
        "Guide": f"{guide}, {TEXTS[guide]}",
        "Kit": kit,
        "Date": f"{when.astimezone(UTC):%Y-%m-%d %H:%M} UTC",
        "Result": summary(findings),
    }
    rows = "".join(f"<dt>{name}</dt><dd>{_text(value)}</dd>" for name, value in about.items())
    groups = "".join(
        _group(state, [finding for finding in findings if finding.state is state])
        for state in _GROUPS
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="referrer" content="no-referrer">'
        f"<title>SMART Imaging Access: {_text(base)}</title><style>{_STYLE}</style></head>"
        f"<body><h1>SMART Imaging Access: what a client sees</h1><dl>{rows}</dl>{groups}"
        f"<p>Levels: {', '.join(RequirementLevel)}. A broken SHALL alone is a problem.</p>"
        "</body></html>\n"
    )


def _group(state: State, findings: Sequence[Finding]) -> str:
    if not findings:
        return ""
    title, meaning = _GROUPS[state]
    items = "".join(f"<li>{''.join(_item(finding))}</li>" for finding in findings)
    return (
        f'<section class="{state.lower()}"><h2>{title} ({len(findings)})</h2><p>{meaning}</p>'
        f"<ul>{items}</ul></section>"
    )


def _item(finding: Finding) -> Iterator[str]:
    yield f"<b>{_text(finding.name)}</b>"
    if finding.level is not None:
        yield f" <small>{_text(finding.level)}</small>"
    yield f"<p>{_text(finding.text)}</p>"
    if finding.hint is not None:
        yield f"<p><i>{_text(finding.hint)}</i></p>"


def _text(text: str) -> str:
    return escape(printable(text))


def junit(base: str, guide: Guide, findings: Sequence[Finding], kit: str) -> str:
    """Return the findings as a test suite. A broken ``SHALL`` alone is a failure.

    ``kit`` is the kit's name and version.
    """
    counts = {state: str(sum(finding.state is state for finding in findings)) for state in State}
    suite = ElementTree.Element(
        "testsuite",
        name=f"SMART Imaging Access {guide}: {printable(base)}",
        tests=str(len(findings)),
        failures=counts[State.FAIL],
        errors="0",
        skipped=counts[State.SKIP],
    )
    properties = ElementTree.SubElement(suite, "properties")
    ElementTree.SubElement(properties, "property", name="kit", value=kit)
    for finding in findings:
        number, _, title = finding.name.partition(" ")
        case = ElementTree.SubElement(suite, "testcase", classname=number, name=title)
        text = printable(" -> ".join(filter(None, (finding.text, finding.hint))))
        if finding.state is State.FAIL:
            ElementTree.SubElement(case, "failure", message=printable(finding.text)).text = text
        elif finding.state is State.SKIP:
            ElementTree.SubElement(case, "skipped", message=text)
        else:
            said = f"{finding.state} ({finding.level}): {text}"
            ElementTree.SubElement(case, "system-out").text = said
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"
