"""The request target: one spelling for each path, anything else is nobody's resource (attack class
"Path").
"""

import re
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.common.errors import BadRequest, NotFound
from sidecar.web.target import MAXIMUM_LENGTH, Target, TargetTooLong, form_parameters, parse_target
from tests.tables.targets import ATTACKS

GOOD: dict[str, Target] = {
    "/": Target(("",), ""),
    "/?a=b": Target(("",), "a=b"),
    "/fhir/metadata": Target(("fhir", "metadata"), ""),
    "/fhir/.well-known/smart-configuration": Target(
        ("fhir", ".well-known", "smart-configuration"), ""
    ),
    "/fhir/ImagingStudy?patient=Patient%2F1&_include=ImagingStudy%3Aendpoint": Target(
        ("fhir", "ImagingStudy"), "patient=Patient%2F1&_include=ImagingStudy%3Aendpoint"
    ),
    "/fhir/Patient/a-1.B/$wado-rs/studies/1.2": Target(
        ("fhir", "Patient", "a-1.B", "$wado-rs", "studies", "1.2"), ""
    ),
    "/fhir/Patient/1/%24wado-rs/studies": Target(
        ("fhir", "Patient", "1", "$wado-rs", "studies"), ""
    ),
    "/wado-rs/frames/1,2?": Target(("wado-rs", "frames", "1,2"), ""),
    "/a?b?c": Target(("a",), "b?c"),
    "/...": Target(("...",), ""),
    "/~x/_y": Target(("~x", "_y"), ""),
}


@pytest.mark.parametrize("raw", GOOD)
def test_our_own_spelling(raw: str) -> None:
    assert parse_target(raw) == GOOD[raw]


@pytest.mark.parametrize("raw", ATTACKS, ids=repr)
def test_any_other_spelling_is_nobodys_resource(raw: str) -> None:
    """With and without a query; the answer is that of any path that does not exist."""
    for target in (raw, raw + "?a=b"):
        with pytest.raises(NotFound) as refused:
            parse_target(target)
        assert refused.value.reason == "unknown_path"


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "*",
        "x",
        "fhir/metadata",
        "http://pacs.example.org/studies",
        "HTTP://x/",
        "http:/fhir/metadata",
        "example.org:443",
        "[::1]:80",
        "?a=b",
        " /fhir/metadata",
        "\\fhir",
        "file:///etc/passwd",
        "javascript:x",
        ".",
        "..",
        "%2Ffhir",
        ";/fhir",
    ],
    ids=repr,
)
def test_what_is_no_path_is_refused(raw: str) -> None:
    """Absolute form, authority form, asterisk form: this server is nobody's proxy."""
    with pytest.raises(BadRequest) as refused:
        parse_target(raw)
    assert refused.value.reason == "bad_target"


@pytest.mark.parametrize(
    "query",
    ["a b", "a=\t", "a=\x00", "a=b\r\nX: y", "a=é", "a=\u202e", "a=b#c", "#", "a=\x7f", "a=\ud800"],
    ids=repr,
)
def test_a_query_with_raw_characters_is_refused(query: str) -> None:
    with pytest.raises(BadRequest) as refused:
        parse_target("/fhir/ImagingStudy?" + query)
    assert refused.value.reason == "bad_query"


def test_long_targets() -> None:
    """414; to the character, and before anything else is looked at."""
    assert parse_target("/" + "a" * (MAXIMUM_LENGTH - 1)).segments == ("a" * (MAXIMUM_LENGTH - 1),)
    for raw in (
        "/" + "a" * MAXIMUM_LENGTH,
        "/?" + "a" * MAXIMUM_LENGTH,
        "x" * 10**6,
        "/" + "%" * MAXIMUM_LENGTH,
    ):
        with pytest.raises(TargetTooLong) as refused:
            parse_target(raw)
        assert refused.value.status == 414


def test_the_dollar_is_read_once() -> None:
    """``%244`` is "$4", as everywhere; what was decoded is not decoded again."""
    assert parse_target("/%244") == Target(("$4",), "")
    assert parse_target("/%24%24").segments == ("$$",)


CHARACTERS = st.one_of(
    st.text(max_size=12), st.text("/.%24$;\\~,-_aZ09?#:@", max_size=30), st.sampled_from(ATTACKS)
)
_SEGMENT = re.compile(r"[A-Za-z0-9._~,$-]*", re.ASCII)


@given(
    st.one_of(
        CHARACTERS,
        CHARACTERS.map(lambda text: "/" + text),
        st.tuples(CHARACTERS, CHARACTERS).map("/".join),
    )
)
def test_any_target_is_read_in_one_way_or_refused(raw: str) -> None:
    """A target has our alphabet only, and written again it is what came, but for ``%24``."""
    try:
        target = parse_target(raw)
    except (BadRequest, NotFound, TargetTooLong):
        return
    assert all(_SEGMENT.fullmatch(one) for one in target.segments)
    assert not {".", ".."} & set(target.segments)
    assert target.segments == ("",) or "" not in target.segments
    path, mark, query = raw.partition("?")
    assert "/" + "/".join(target.segments) == path.replace("%24", "$")
    assert target.query == query
    assert parse_target("/" + "/".join(target.segments) + mark + query) == target


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("a=b", [("a", "b")]),
        ("a=b&a=c&d=", [("a", "b"), ("a", "c"), ("d", "")]),
        ("=b", [("", "b")]),
        ("a=b=c", [("a", "b=c")]),
        ("a=%2B+%20%26", [("a", "+  &")]),
        ("%61=%C3%A9", [("a", "é")]),
        ("a=%2541", [("a", "%41")]),
        ("a=b;c=d", [("a", "b;c=d")]),
        ("a=%00", [("a", "\x00")]),
        ("a=b&", [("a", "b")]),
        ("&a=b&&c=d", [("a", "b"), ("c", "d")]),
        ("&", []),
    ],
)
def test_form_parameters(text: str, expected: list[tuple[str, str]]) -> None:
    """``;`` separates nothing, and what was decoded is not decoded again."""
    assert form_parameters(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "a&b=c",
        "a=b&c",
        "&a",
        "a=%",
        "a=%2",
        "a=%zz",
        "a=%u0041",
        "%=a",
        "a=%c0%ae",
        "a=%ff",
        "a=%ed%a0%80",
        "a=%e9",
        "%ff=a",
        "&".join(["a=b"] * 201),
    ],
)
def test_malformed_forms_are_400(text: str) -> None:
    with pytest.raises(BadRequest) as refused:
        form_parameters(text)
    assert refused.value.reason == "bad_query"


def test_as_many_parameters_as_allowed_pass() -> None:
    assert len(form_parameters("&".join(["a=b"] * 200))) == 200


@given(st.text(max_size=80))
def test_any_text_is_a_form_or_400(text: str) -> None:
    try:
        pairs = form_parameters(text)
    except BadRequest:
        return
    assert all(isinstance(name, str) and isinstance(value, str) for name, value in pairs)


PAIRS = st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), min_size=1, max_size=6)


@given(
    PAIRS.filter(
        lambda pairs: (
            not any("\ud800" <= one <= "\udfff" for pair in pairs for text in pair for one in text)
        )
    )
)
def test_whatever_is_encoded_is_decoded_to_the_same(pairs: list[tuple[str, str]]) -> None:
    assert form_parameters(urlencode(pairs)) == pairs
