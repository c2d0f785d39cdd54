"""URLs and origins: what cannot work later is refused now, in words that do not quote it."""

import pytest
from pydantic import TypeAdapter, ValidationError

from sidecar.settings.types import Origin, Url

URL, ORIGIN = TypeAdapter[str](Url), TypeAdapter[str](Origin)


def why_not(kind: TypeAdapter[str], value: str) -> str:
    """The reason for which ``value`` is refused."""
    with pytest.raises(ValidationError) as refused:
        kind.validate_python(value)
    (error,) = refused.value.errors()
    return error["msg"].removeprefix("Value error, ")


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("http://pacs", "http://pacs"),
        ("https://pacs.example.org:8443/dicom-web/", "https://pacs.example.org:8443/dicom-web"),
        ("http://[::1]:8042/a%20b//", "http://[::1]:8042/a%20b"),
        ("http://pacs/aets/A@B/rs", "http://pacs/aets/A@B/rs"),
    ],
)
def test_a_url_ends_without_a_slash(url: str, same: str) -> None:
    assert URL.validate_python(url) == same


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://pacs/x", "must be an absolute http or https URL"),
        ("pacs/dicom-web", "must be an absolute http or https URL"),
        ("https:///dicom-web", "must be an absolute http or https URL"),
        ("http://pacs:port/x", "must be an absolute http or https URL"),
        ("http://us:Zq7-hunter2-Xw/x", "must be an absolute http or https URL"),
        ("http://[::1/x", "must be an absolute http or https URL"),
        ("http://us:Zq7-hunter2-Xw@pacs/x", "must have no user, query or fragment"),
        ("http://pacs/x?", "must have no user, query or fragment"),
        ("http://pacs/x#", "must have no user, query or fragment"),
        ("http://pacs/ä", "must be percent-encoded ASCII"),
        ("http://pacs/a b", "must be percent-encoded ASCII"),
        ("http://pacs\\@other/x", "must be percent-encoded ASCII"),
        ("http://pacs/x\n", "must be percent-encoded ASCII"),
    ],
)
def test_a_wrong_url(url: str, why: str) -> None:
    assert why_not(URL, url) == why


@pytest.mark.parametrize(
    "origin", ["*", "https://viewer.example.org", "http://localhost:3000", "http://[::1]:8000"]
)
def test_an_origin_as_browsers_send_it(origin: str) -> None:
    assert ORIGIN.validate_python(origin) == origin


@pytest.mark.parametrize(
    "origin",
    [
        "https://a/",
        "https://a?x",
        "https://a#x",
        "https://u@a",
        "a.example.org",
        "https://A.example.org",
        "null",
        "https://a:443",
        "http://a:80",
        "http://a:99999",
        "https://ä",
        "app://a",
        "",
    ],
)
def test_an_origin_that_no_browser_sends(origin: str) -> None:
    assert why_not(ORIGIN, origin).startswith("must be ")
