"""HTML pages of the demo EHR, without scripts and external resources."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from html import escape

from aiohttp import web

from sidecar.demo.people import DemoPatient

_STYLE = """
:root { color-scheme: light dark; font-family: system-ui, sans-serif; line-height: 1.5;
  --accent: light-dark(#0b57a4, #8fc3ff); --line: light-dark(#c6ccd4, #49525e);
  --quiet: light-dark(#4c5663, #b4bec9); }
body { margin: 0; padding: 1.5rem 1rem; background: light-dark(#eef1f5, #14181d); }
main { max-width: 34rem; margin: 0 auto; padding: 1.5rem; border: 1px solid var(--line);
  border-radius: 0.75rem; background: light-dark(#fff, #1d232a); }
h1 { margin: 0 0 0.5rem; font-size: 1.4rem; line-height: 1.25; }
p { margin: 0 0 1rem; }
code { overflow-wrap: anywhere; font-size: 0.9em; }
fieldset { margin: 0 0 1.25rem; padding: 0; border: 0; }
legend { padding: 0; margin-bottom: 0.4rem; font-weight: 600; }
label { display: flex; gap: 0.75rem; align-items: start; margin-bottom: 0.5rem;
  padding: 0.6rem 0.8rem; border: 1px solid var(--line); border-radius: 0.5rem; cursor: pointer; }
label:has(:checked) { border-color: var(--accent); box-shadow: inset 0 0 0 1px var(--accent); }
input { flex: none; width: 1.15rem; height: 1.15rem; margin: 0.2rem 0 0;
  accent-color: var(--accent); }
small { display: block; color: var(--quiet); font-size: 0.9rem; }
button { min-width: 7rem; min-height: 2.75rem; margin-right: 0.5rem; padding: 0.5rem 1.25rem;
  font: inherit; font-weight: 600; border: 1px solid var(--accent); border-radius: 0.5rem;
  color: var(--accent); background: none; cursor: pointer; }
button.allow { color: light-dark(#fff, #10151a); background: var(--accent); }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()


def consent_page(
    *,
    client_id: str,
    return_to: str,
    transaction: str,
    patients: Sequence[DemoPatient],
    scopes: Mapping[str, str],
    left_out: Sequence[str],
) -> web.Response:
    """Return the page that asks a person for consent.

    - ``scopes``: scopes that may be allowed, each with its meaning
    - ``left_out``: scopes that this EHR does not grant
    - ``return_to``: origin to which both answers lead
    - ``transaction``: id of the checked request
    """
    people = "\n".join(_person(patient, checked=patient is patients[0]) for patient in patients)
    rights = "\n".join(
        f'<label><input type="checkbox" name="scope" value="{escape(scope)}" checked>'
        f"<span>{escape(meaning)}<small><code>{escape(scope)}</code></small></span></label>"
        for scope, meaning in scopes.items()
    )
    others = ", ".join(f"<code>{escape(scope)}</code>" for scope in left_out)
    without = f"<p>Asked for as well, but not to be had here: {others}</p>" if others else ""
    content = f"""
<h1>May this app see a patient's data?</h1>
<p>The app calls itself <code>{escape(client_id)}</code>. Both answers lead back to
<code>{escape(return_to)}</code>. This is a demo: everybody here is invented, and anyone may choose
for them.</p>
<form method="post" action="/authorize/consent" autocomplete="off">
<input type="hidden" name="transaction" value="{escape(transaction)}">
<fieldset><legend>Whose data?</legend>
{people}
</fieldset>
<fieldset><legend>What may the app do?</legend>
{rights}
</fieldset>
{without}
<button class="allow" name="decision" value="allow">Allow</button>
<button name="decision" value="deny" formnovalidate>Deny</button>
</form>"""
    return _page("Allow an app — demo EHR", content, form_action=f"'self' {_source(return_to)}")


def error_page(text: str, *, status: int) -> web.Response:
    """Return a page with the reason of a refusal, without a redirect."""
    content = f"""
<h1>This request cannot be served</h1>
<p role="alert">{escape(text)}</p>
<p>Nothing was allowed. Go back to the app and begin again.</p>"""
    return _page("Not possible — demo EHR", content, form_action="'none'", status=status)


def _person(patient: DemoPatient, *, checked: bool) -> str:
    state, records = " checked" * checked, escape(", ".join(patient.mrns))
    return (
        f'<label><input type="radio" name="patient" value="{escape(patient.id)}" required{state}>'
        f"<span>{escape(patient.given)} {escape(patient.family)}"
        f"<small>born {escape(patient.birth_date)} · record {records}</small></span></label>"
    )


def _source(origin: str) -> str:
    # Browsers apply form-action to the redirect, too. For IPv6 literals, which form-action cannot
    # have, the scheme must do.
    return "http:" if "[" in origin else origin


def _page(title: str, content: str, *, form_action: str, status: int = 200) -> web.Response:
    text = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>{content}
</main>
</body>
</html>
"""
    policy = (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action {form_action}; "
        "base-uri 'none'; frame-ancestors 'none'"
    )
    headers = {
        "Content-Security-Policy": policy,
        "X-Frame-Options": "DENY",
        # With no-referrer the form's Origin header, which is checked, would be "null".
        "Referrer-Policy": "same-origin",
    }
    return web.Response(
        text=text, status=status, content_type="text/html", charset="utf-8", headers=headers
    )
