"""A real Orthanc with its character sets: whose number it is, for every form (SIA-42)."""

import asyncio
import random
import unicodedata
from pathlib import Path

import pytest

from sidecar.access.facts import PatientIdentifier
from tests.real.character_sets import ENCODINGS, file, study_uid
from tests.real.orthanc import Orthanc, require_orthanc
from tests.real.orthanc_forms import FORMS, load, places, sidecar

pytestmark = pytest.mark.orthanc


def pairs(seed: int) -> list[tuple[str, str]]:
    """Numbers that differ in one character, of every plane and of the kinds that are easily taken
    for another.
    """
    chance = random.Random(seed)
    odd = [
        "\u0410",
        "\uff11",
        "\u0308",
        "\u200b",
        "\u200d",
        "\u2060",
        "\ufeff",
        "\u202e",
        "\u200f",
        "\u2066",
        "\u00ad",
        "\u00a0",
        "\u3000",
        "\u2009",
        "\u0660",
        "\u180e",
        "\ufe0f",
        "\u0131",
        "\u212a",
        "\ufffd",
        "\x85",
        "\ue000",
        "胸",
        "ß",
        "😀",
    ]
    odd += [
        chr(chance.randrange(max(plane << 16, 0x2000), 0xD800 if not plane else (plane + 1) << 16))
        for plane in (0, 1, 2, 3, 14, 15, 16)
    ]
    made = [
        (f"{n}A7", f"{n}" + _with(character, "A7", chance))
        for n, character in enumerate(odd, start=100)
    ]
    made += [
        ("200\u00c47", "200A\u03087"),
        ("201k", "201K"),
        ("202 7", "2027"),
        ("203 7", "203  7"),
        ("2047", "204*"),
        ("2057", "205?"),
        ("206胸部", "206胸"),
        ("207\u00c5X", "207\u212bX"),
        ("胸部", "部"),
        ("\u0416\u0416", "\u0416"),
    ]
    return made


def _with(odd: str, rest: str, chance: random.Random) -> str:
    at = chance.randrange(len(rest) + 1)
    return rest[:at] + odd + rest[at:]


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_numbers_that_differ_in_any_character_are_two_patients(
    encoding: str, tmp_path: Path
) -> None:
    """For every form in which something can be had, in both directions, also with what the other
    just looked at.
    """
    require_orthanc()
    seed = random.randrange(2**32)
    couples = pairs(seed)
    numbers = [number for couple in couples for number in couple]
    assert len(set(numbers)) == len(numbers)
    with Orthanc({"DefaultEncoding": encoding}) as orthanc:
        for n, number in enumerate(numbers):
            load(
                orthanc, await asyncio.to_thread(file, tmp_path, n, b"ISO_IR 192", number.encode())
            )
        where = places(orthanc)
        assert len(where) == len(numbers)
        async with sidecar(orthanc, numbers) as client:

            async def ask(patient: int, other: int) -> list[str]:
                """What is wrong with what the patient gets of the other's study, or of its own."""
                study = study_uid(other)
                own = patient == other and _reaches(numbers[patient])
                differences = []
                for form, (path, accept, expected) in FORMS.items():
                    status = await client.status(patient, path.format(study, *where[study]), accept)
                    if status not in (expected if own else {404}):
                        differences.append(
                            f"{numbers[patient]!a} gets {form} of {numbers[other]!a}: {status}"
                        )
                if await client.listed(patient) != (
                    {study_uid(patient)} if _reaches(numbers[patient]) else set()
                ):
                    differences.append(f"{numbers[patient]!a} is listed something else")
                return differences

            for first, second in ((0, 0), (0, 1), (1, 0), (1, 1)):
                wrong = await asyncio.gather(
                    *(ask(2 * n + first, 2 * n + second) for n in range(len(couples)))
                )
                assert not [difference for some in wrong for difference in some], f"seed {seed}"


def _reaches(number: str) -> bool:
    """Whether a patient of this number reaches anything: one that cannot be asked for, or known,
    does not.
    """
    return PatientIdentifier(number).is_searchable() and "\ufffd" not in number


def test_the_pairs_are_of_every_kind() -> None:
    couples = pairs(1)
    assert all(number != other for number, other in couples)
    odd = {character for couple in couples for number in couple for character in number}
    assert {ord(character) >> 16 for character in odd} >= {0, 1, 2, 3, 14, 15, 16}
    assert {unicodedata.category(character) for character in odd} >= {
        "Mn",
        "Cf",
        "Zs",
        "Lo",
        "Lu",
        "Nd",
        "So",
        "Co",
        "Cc",
    }
