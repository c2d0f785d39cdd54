"""Single attributes of QIDO-RS rows -> FHIR elements (R4 imagingstudy-mappings.html, "DICOM Tag Mapping")."""

import re
from typing import Any

from sidecar.dicom.json_model import Row, person_name_groups, sequence, text

Json = dict[str, Any]

_SNOMED = "http://snomed.info/sct"
_V2_IDENTIFIER_TYPE = "http://terminology.hl7.org/CodeSystem/v2-0203"
_PERFORMER = {"system": "http://terminology.hl7.org/CodeSystem/v3-ParticipationType", "code": "PRF"}
_LATERALITY = {
    "R": {"system": _SNOMED, "code": "24028007", "display": "Right"},
    "L": {"system": _SNOMED, "code": "7771000", "display": "Left"},
    "B": {"system": _SNOMED, "code": "51440002", "display": "Right and left"},
}
# PS3.16 8: the designators that FHIR has a URI for
# (https://hl7.org/fhir/R4/terminologies-systems.html).
_SYSTEMS = {
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    "SCT": _SNOMED,
    "SRT": _SNOMED,
    "LN": "http://loinc.org",
    "C4": "http://www.ama-assn.org/go/cpt",
    "I10": "http://hl7.org/fhir/sid/icd-10",
    "I10C": "http://hl7.org/fhir/sid/icd-10-cm",
    "I9C": "http://hl7.org/fhir/sid/icd-9-cm",
    "UCUM": "http://unitsofmeasure.org",
    "RADLEX": "http://radlex.org",
    "RXNORM": "http://www.nlm.nih.gov/research/umls/rxnorm",
}
# "SRT" was also used for the letter codes of SNOMED RT, which are no SNOMED CT identifiers.
_SCT_ID = re.compile(r"[0-9]{6,18}", re.ASCII)
# R4 datatypes.html#oid
_OID = re.compile(r"[0-2](?:\.(?:0|[1-9][0-9]{0,61})){1,31}", re.ASCII)
# R4 datatypes.html#code: no white space but single spaces inside.
_CODE = re.compile(r"[!-~]+(?: [!-~]+)*", re.ASCII)
# Escape sequences of ISO 2022 slip through some archives.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def said(text_of_row: str | None) -> str | None:
    """A text for people without control characters (R4 datatypes.html#string).

    ``None`` when nothing is left.
    """
    return (_CONTROL.sub("", text_of_row).strip() if text_of_row else "") or None


def person(row: Row, keyword: str) -> Json | None:
    """A reference that is nothing but the person's name as it is said, other scripts in parentheses behind it."""
    groups = person_name_groups(row, keyword)
    names = [name for group, value in groups.items() if (name := said(_display(value, group)))]
    if not names:
        return None
    others = [one for one in names[1:] if one != names[0]]
    return {"display": names[0] + (f" ({', '.join(others)})" if others else "")}


def _display(name: str, group: str) -> str:
    """``Doe^Jane^Q^Dr^MD`` -> ``Dr Jane Q Doe MD`` (PS3.5 6.2.1: family, given, middle, prefix, suffix).

    Ideographic and phonetic names are said as they are written: the family first.
    """
    family, given, middle, prefix, suffix = ([*name.split("^"), "", "", "", ""])[:5]
    order = (
        (prefix, given, middle, family, suffix)
        if group == "Alphabetic"
        else (prefix, family, given, middle, suffix)
    )
    return " ".join(part.strip() for part in order if part.strip())


def concepts(row: Row, keyword: str) -> list[Json] | None:
    """A code sequence (PS3.3 8.8) as CodeableConcepts."""
    found = [concept for item in sequence(row, keyword) if (concept := _concept(item))]
    return found or None


def _concept(item: Row) -> Json | None:
    value = said(text(item, "CodeValue") or text(item, "LongCodeValue"))
    meaning, system = said(text(item, "CodeMeaning")), _system(item, value)
    coding = {}
    if value is not None and _CODE.fullmatch(value):
        version = said(text(item, "CodingSchemeVersion"))
        coding = {
            "system": system,
            "version": version if system else None,
            "code": value,
            "display": meaning,
        }
        coding = {name: one for name, one in coding.items() if one is not None}
    concept = {"coding": [coding] if coding else None, "text": meaning}
    return {name: one for name, one in concept.items() if one} or None


def _system(item: Row, value: str | None) -> str | None:
    designator = text(item, "CodingSchemeDesignator") or ""
    if designator == "SRT" and not _SCT_ID.fullmatch(value or ""):
        return None
    uid = text(item, "CodingSchemeUID") or ""
    return _SYSTEMS.get(designator) or (f"urn:oid:{uid}" if _OID.fullmatch(uid) else None)


def reasons(row: Row) -> list[Json] | None:
    """Why it was done: codes of the requested procedure's reason, else its words, else the admitting diagnoses."""
    for one in (row, *sequence(row, "RequestAttributesSequence")):
        coded = concepts(one, "ReasonForRequestedProcedureCodeSequence")
        if coded:
            return coded
        words = said(text(one, "ReasonForTheRequestedProcedure"))
        if words:
            return [{"text": words}]
    return concepts(row, "AdmittingDiagnosesCodeSequence")


def based_on(row: Row) -> list[Json] | None:
    """The order, by the number that the placer gave it."""
    number = said(text(row, "PlacerOrderNumberImagingServiceRequest"))
    if number is None:
        return None
    kind = {"coding": [{"system": _V2_IDENTIFIER_TYPE, "code": "PLAC"}]}
    return [{"type": "ServiceRequest", "identifier": {"type": kind, "value": number}}]


def laterality(row: Row) -> Json | None:
    """Left, right or both."""
    return _LATERALITY.get((text(row, "Laterality") or "").upper())


def performers(row: Row) -> list[Json] | None:
    """Who performed the series."""
    names = (person(row, "PerformingPhysicianName"), person(row, "OperatorsName"))
    found = [{"function": {"coding": [_PERFORMER]}, "actor": name} for name in names if name]
    return found or None


def title(row: Row) -> str | None:
    """What an instance calls itself: a presentation's label, a document's title, the name of a report."""
    for keyword in ("ContentLabel", "DocumentTitle"):
        name = said(text(row, keyword))
        if name:
            return name
    return next(
        (
            one
            for item in sequence(row, "ConceptNameCodeSequence")
            if (one := said(text(item, "CodeMeaning")))
        ),
        None,
    )
