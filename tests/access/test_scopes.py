"""Scope strings -> grants (SIA-11, SIA-15): what is read to the letter, and everything else that
grants nothing.
"""

import string
from itertools import combinations, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.access.scopes import Grant, ScopeContext, parse_scope, parse_scopes

CONTEXTS = [context.value for context in ScopeContext]
RESOURCES = ("*", "ImagingStudy")
LETTERS = "cruds"

# Every scope without constraint that grants read or search on ImagingStudy, written out
# independently of the parser.
V2 = [
    "".join(letters)
    for count in range(1, 6)
    for letters in combinations(LETTERS, count)
    if {*letters} & {*"rs"}
]
ACCEPTED = {
    f"{context}/{resource}.{permission}"
    for context in CONTEXTS
    for resource in RESOURCES
    for permission in ("read", "*", *V2)
}

GRANTED: dict[str, Grant] = {
    "patient/ImagingStudy.read": Grant(ScopeContext.PATIENT, read=True, search=True),
    "patient/ImagingStudy.*": Grant(ScopeContext.PATIENT, read=True, search=True),
    "patient/*.read": Grant(ScopeContext.PATIENT, read=True, search=True),
    "patient/*.*": Grant(ScopeContext.PATIENT, read=True, search=True),
    "patient/ImagingStudy.rs": Grant(ScopeContext.PATIENT, read=True, search=True),
    "patient/*.rs": Grant(ScopeContext.PATIENT, read=True, search=True),
    "patient/ImagingStudy.cruds": Grant(ScopeContext.PATIENT, read=True, search=True),
    "patient/*.cruds": Grant(ScopeContext.PATIENT, read=True, search=True),
    "patient/ImagingStudy.r": Grant(ScopeContext.PATIENT, read=True, search=False),
    "patient/ImagingStudy.s": Grant(ScopeContext.PATIENT, read=False, search=True),
    "patient/ImagingStudy.cr": Grant(ScopeContext.PATIENT, read=True, search=False),
    "patient/ImagingStudy.ds": Grant(ScopeContext.PATIENT, read=False, search=True),
    "user/ImagingStudy.rs": Grant(ScopeContext.USER, read=True, search=True),
    "system/ImagingStudy.rs": Grant(ScopeContext.SYSTEM, read=True, search=True),
    "system/*.rs": Grant(ScopeContext.SYSTEM, read=True, search=True),
    "patient/ImagingStudy.rs?modality=CT": Grant(
        ScopeContext.PATIENT, read=True, search=True, constraint="modality=CT"
    ),
    "patient/ImagingStudy.rs?modality=CT&modality=MR": Grant(
        ScopeContext.PATIENT, read=True, search=True, constraint="modality=CT&modality=MR"
    ),
    "patient/*.s?_security=N": Grant(
        ScopeContext.PATIENT, read=False, search=True, constraint="_security=N"
    ),
    # A constraint that says nothing is still a constraint: it must not turn into "no restriction".
    "patient/ImagingStudy.rs?": Grant(ScopeContext.PATIENT, read=True, search=True, constraint=""),
}

NOTHING = [
    "",
    " ",
    "patient",
    "patient/",
    "patient/ImagingStudy",
    "patient/ImagingStudy.",
    "patient/*",
    "patient/*.",
    ".rs",
    "openid",
    "fhirUser",
    "launch",
    "launch/patient",
    "launch/imagingstudy",
    "offline_access",
    "*",
    "*/*.*",
    "*.*",
    # not read or search
    "patient/ImagingStudy.c",
    "patient/ImagingStudy.u",
    "patient/ImagingStudy.d",
    "patient/ImagingStudy.cud",
    "patient/ImagingStudy.write",
    "patient/*.write",
    "patient/*.cud",
    "patient/ImagingStudy.readwrite",
    "patient/*.readwrite",
    "patient/ImagingStudy.search",
    "patient/ImagingStudy.none",
    # another resource
    "patient/imagingstudy.read",
    "patient/IMAGINGSTUDY.rs",
    "patient/ImagingStudyX.read",
    "patient/XImagingStudy.rs",
    "patient/Imaging.rs",
    "patient/ImagingStud.rs",
    "patient/ImagingSelection.rs",
    "patient/Observation.rs",
    "patient/Patient.read",
    "patient/Imaging*.rs",
    "patient/**.rs",
    "patient/ImagingStudy,Patient.rs",
    "patient/ImagingStudy|Patient.rs",
    "patient/ImagingStudy/1.rs",
    # another context
    "xpatient/*.read",
    "patientx/*.read",
    "Patient/*.read",
    "PATIENT/*.rs",
    "/ImagingStudy.rs",
    "*/ImagingStudy.rs",
    "practitioner/ImagingStudy.rs",
    "patient:ImagingStudy.rs",
    "patient//ImagingStudy.rs",
    "patient/user/*.rs",
    # letters out of order, twice, in capitals
    "patient/ImagingStudy.sr",
    "patient/ImagingStudy.rc",
    "patient/ImagingStudy.sdurc",
    "patient/ImagingStudy.rr",
    "patient/ImagingStudy.rss",
    "patient/ImagingStudy.RS",
    "patient/ImagingStudy.Read",
    "patient/*.READ",
    # v1 has no constraints; constraints are visible ASCII
    "patient/ImagingStudy.read?modality=CT",
    "patient/ImagingStudy.*?modality=CT",
    "patient/*.read?",
    "patient/ImagingStudy.rs?modality=\u00e4",
    "patient/ImagingStudy.rs?a\x00b",
    "patient/ImagingStudy.?modality=CT",
    "patient/ImagingStudy.rs#x",
    "patient/ImagingStudy.rs&modality=CT",
    "patient/ImagingStudy.rs%3Fmodality=CT",
    # whitespace, quotes and lookalikes
    " patient/ImagingStudy.rs",
    "patient/ImagingStudy.rs\n",
    "patient/ImagingStudy.rs\x00",
    "\tpatient/*.rs",
    '"patient/ImagingStudy.rs"',
    "patient/ImagingStudy.rs,",
    "patient/ImagingStudy.r\u0455",
    "patient/\uff0a.rs",
    "p\u0430tient/ImagingStudy.rs",
    "patient\uff0fImagingStudy.rs",
    "patient/ImagingStudy\u3002rs",
    "patient%2FImagingStudy.rs",
    "patient\\ImagingStudy.rs",
    "\ud800",
    "https://ehr.example.org/patient/ImagingStudy.rs",
]


@pytest.mark.parametrize("scope", GRANTED)
def test_a_scope_of_the_specification_grants_what_it_says(scope: str) -> None:
    """SIA-11: v1, v2, wildcards and wider ones; a constraint stays on its grant."""
    assert parse_scope(scope) == GRANTED[scope]
    assert parse_scopes(scope) == (GRANTED[scope],)


@pytest.mark.parametrize("scope", NOTHING, ids=ascii)
def test_anything_else_grants_nothing(scope: str) -> None:
    """SIA-11: no scope is guessed, completed or repaired."""
    assert parse_scope(scope) is None


def test_each_accepted_scope_has_its_letters() -> None:
    """SIA-11: search needs s, read needs r; context and letters are those of the string."""
    assert len(ACCEPTED) > 100
    for scope in sorted(ACCEPTED):
        permission = scope.rpartition(".")[2]
        both = permission in ("read", "*")
        expected = Grant(
            ScopeContext(scope.partition("/")[0]),
            read=both or "r" in permission,
            search=both or "s" in permission,
        )
        assert parse_scope(scope) == expected, scope


def test_letters_out_of_order_grant_nothing() -> None:
    """SIA-11: ``cruds`` in that order (SMART App Launch 2.2); ``sr`` is no scope, not a sloppy
    ``rs``.
    """
    for count in range(2, 6):
        for letters in permutations(LETTERS, count):
            if list(letters) != sorted(letters, key=LETTERS.index):
                assert parse_scope(f"patient/ImagingStudy.{''.join(letters)}") is None, letters


@given(st.text())
def test_any_text_is_read_without_failure(text: str) -> None:
    """A scope string is what the authorization server sends, which may be anything."""
    assert all(isinstance(grant, Grant) for grant in parse_scopes(text))


@given(st.text(alphabet="patienusrym/*.ImagStudycrd? \n"))
def test_near_scopes_grant_only_when_they_are_scopes(text: str) -> None:
    """SIA-11: a text grants exactly when it is on the list (constraints aside)."""
    if "?" not in text:
        assert (parse_scope(text) is not None) == (text in ACCEPTED)


@given(
    scope=st.sampled_from(sorted(ACCEPTED)),
    position=st.integers(0, 40),
    cut=st.integers(0, 2),
    insert=st.text(alphabet=string.printable, max_size=2),
)
def test_an_edited_scope_grants_only_when_it_is_a_scope(
    scope: str, position: int, cut: int, insert: str
) -> None:
    """SIA-11: one or two characters more, less or other."""
    edited = scope[:position] + insert + scope[position + cut :]
    if "?" not in edited:
        assert (parse_scope(edited) is not None) == (edited in ACCEPTED)


@given(scope=st.sampled_from(sorted(ACCEPTED)), data=st.data())
def test_a_change_of_case_grants_nothing(scope: str, data: st.DataObject) -> None:
    """SIA-11: scopes are case-sensitive (RFC 6749 3.3)."""
    letters = [position for position, character in enumerate(scope) if character.isalpha()]
    flipped = data.draw(st.sets(st.sampled_from(letters), min_size=1))
    changed = "".join(
        c.swapcase() if position in flipped else c for position, c in enumerate(scope)
    )
    assert parse_scope(changed) is None


SCOPE_STRINGS = st.lists(
    st.sampled_from([*sorted(ACCEPTED), *GRANTED, *NOTHING]) | st.text(max_size=8), max_size=6
).map(" ".join)


@given(SCOPE_STRINGS, SCOPE_STRINGS)
def test_joined_scope_strings_are_the_union_of_their_grants(one: str, other: str) -> None:
    """SIA-15: putting scopes side by side never makes a grant that none of them is."""
    assert set(parse_scopes(f"{one} {other}")) == set(parse_scopes(one)) | set(parse_scopes(other))


@given(SCOPE_STRINGS)
def test_grants_come_in_order_and_once(scopes: str) -> None:
    """Each grant is one of the string's own scopes; doubles add nothing."""
    grants = parse_scopes(scopes)
    assert len(set(grants)) == len(grants)
    assert list(grants) == list(
        dict.fromkeys(found for scope in scopes.split(" ") if (found := parse_scope(scope)))
    )


@pytest.mark.parametrize(
    ("scopes", "counted"),
    [
        ("patient/ImagingStudy.rs?modality=CT", "patient/ImagingStudy.rs?modality=CT"),
        ("patient/*.rs?modality=CT", "patient/*.rs?modality=CT"),
        ("patient/ImagingStudy.rs?what=ever", "patient/ImagingStudy.rs?what=ever"),
        ("patient/ImagingStudy.s", "patient/ImagingStudy.s"),
        ("user/ImagingStudy.r", "user/ImagingStudy.r patient/ImagingStudy.rs"),
        ("patient/ImagingStudy.c", "patient/ImagingStudy.rs"),
    ],
)
def test_a_scope_on_reports_undoes_none_on_studies(scopes: str, counted: str) -> None:
    """SIA-15: where a site lets it count, it is for servers that know no other."""
    resources = ("ImagingStudy", "DiagnosticReport")
    for text in (f"{scopes} patient/DiagnosticReport.rs", f"patient/DiagnosticReport.rs {scopes}"):
        assert set(parse_scopes(text, resources)) == set(parse_scopes(counted))


def test_a_constraint_on_reports_grants_nothing() -> None:
    """It cannot be evaluated on studies, and must not be lost (SIA-11)."""
    resources = ("ImagingStudy", "DiagnosticReport")
    assert parse_scope("patient/DiagnosticReport.rs", resources) is not None
    for constraint in ("?", "?category=LAB", "?modality=CT"):
        assert parse_scope(f"patient/DiagnosticReport.rs{constraint}", resources) is None


def test_read_and_search_of_two_scopes_stay_two_grants() -> None:
    """SIA-15: ``r`` for one and ``s`` for another constraint are not ``rs`` without any."""
    grants = parse_scopes(
        "patient/ImagingStudy.r?modality=CT patient/ImagingStudy.s?modality=MR user/*.rs"
    )
    assert grants == (
        Grant(ScopeContext.PATIENT, read=True, search=False, constraint="modality=CT"),
        Grant(ScopeContext.PATIENT, read=False, search=True, constraint="modality=MR"),
        Grant(ScopeContext.USER, read=True, search=True),
    )


@pytest.mark.parametrize("separator", ["\t", "\n", ",", ";", "+", "\u00a0", "\r\n", "%20"])
def test_only_a_space_separates(separator: str) -> None:
    """RFC 6749 3.3: anything else makes one scope of the two, and no grant."""
    assert parse_scopes(f"patient/ImagingStudy.rs{separator}patient/*.rs") == ()


def test_a_very_long_scope_string_is_read_in_time() -> None:
    """No backtracking: 100,000 near-scopes are nothing special."""
    assert parse_scopes("patient/ImagingStudy.crudsx " * 100_000) == ()
    assert parse_scope("patient/" + "A" * 1_000_000) is None
