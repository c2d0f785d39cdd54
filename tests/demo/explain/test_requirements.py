"""Each reason and each protected route has its explanation, in the words of docs/conformance.md."""

import re
from pathlib import Path

import pytest

from sidecar.access.reasons import STATUS, Reason
from sidecar.demo.explain.requirements import PERMITS, REFUSALS, REQUIREMENTS, explain
from tests.capability_keys import token_bound
from tests.fakes.archive import ScriptedPacs
from tests.fakes.ehr import ScriptedEhr
from tests.fakes.retrievals import GOOD
from tests.fakes.site import sidecar_between

CONFORMANCE = Path(__file__).parents[3] / "docs/conformance.md"
WITHOUT = {"root", "unknown"}
"""Routes that carry nothing of a patient."""


def test_requirements_are_in_the_words_of_the_table() -> None:
    table = dict(
        re.findall(r"^\| (SIA-\d+) \| (.*?) \|", CONFORMANCE.read_text(), flags=re.MULTILINE)
    )
    assert {number: table[number] for number in REQUIREMENTS} == REQUIREMENTS


def test_what_is_referred_to_is_there_and_all_is_referred_to() -> None:
    explanations = (*REFUSALS.values(), *PERMITS.values(), explain("wado-rs", 500, None))
    named = {number for one in explanations for number in one.requirements}
    assert named == set(REQUIREMENTS)
    assert all(one.why.endswith(".") for one in explanations)


@pytest.mark.parametrize("reason", Reason)
def test_each_reason_has_a_sentence_and_a_requirement(reason: Reason) -> None:
    explanation = explain("wado-rs", STATUS[reason], reason.value)
    assert explanation is REFUSALS[reason]
    assert explanation.requirements


async def test_each_route_is_explained(tmp_path: Path) -> None:
    async with sidecar_between(
        ScriptedEhr(),
        ScriptedPacs(GOOD["chunked"]),
        server={"wado_uri": True},
        capabilities=token_bound(tmp_path),
    ) as (_, sidecar):
        names = {resource.name for resource in sidecar.public.router.resources()}
    assert names - WITHOUT <= PERMITS.keys()


@pytest.mark.parametrize(
    ("status", "reason", "requirements"),
    [
        (200, None, ("SIA-10", "SIA-11", "SIA-12", "SIA-41", "SIA-42")),
        (400, "bad_query", ()),
        (502, "pacs_status", ("SIA-16",)),
        (503, "pacs_warming", ("SIA-44", "SIA-23")),
    ],
)
def test_other_answers(status: int, reason: str | None, requirements: tuple[str, ...]) -> None:
    assert explain("wado-rs", status, reason).requirements == requirements


def test_what_has_nothing_of_a_patient() -> None:
    assert explain("page", 200, None).requirements == ()
