"""Attributes of QIDO-RS rows as FHIR elements (R4 imagingstudy-mappings.html)."""

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


def printable(row: Row, keyword: str) -> str | None:
    """Return an attribute's text without control characters (R4 datatypes.html#string).

    ``None`` when nothing is left.
    """
    return _printable(text(row, keyword) or "")


def _printable(value: str) -> str | None:
    return _CONTROL.sub("", value).strip() or None


def person(row: Row, keyword: str) -> Json | None:
    """Return a reference with nothing but the person's name, other scripts in parentheses."""
    groups = person_name_groups(row, keyword)
    displayed = [_printable(_display(value, group)) for group, value in groups.items()]
    names = [name for name in displayed if name]
    if not names:
        return None
    others = [name for name in names[1:] if name != names[0]]
    return {"display": names[0] + (f" ({', '.join(others)})" if others else "")}


def _display(name: str, group: str) -> str:
    """Return ``Dr Jane Q Doe MD`` for ``Doe^Jane^Q^Dr^MD`` (PS3.5 6.2.1).

    Ideographic and phonetic names have the family name first.
    """
    family, given, middle, prefix, suffix = ([*name.split("^"), "", "", "", ""])[:5]
    order = (
        (prefix, given, middle, family, suffix)
        if group == "Alphabetic"
        else (prefix, family, given, middle, suffix)
    )
    return " ".join(part.strip() for part in order if part.strip())


def name_texts(row: Row, keyword: str) -> list[str]:
    """Return what a person's name is found by: as it is displayed, and each part of it."""
    displayed = person(row, keyword)
    if displayed is None:
        return []
    groups = person_name_groups(row, keyword).values()
    parts = [part for group in groups for part in re.split(r"[\^\s]+", group) if part]
    return [displayed["display"], *parts]


def concepts(row: Row, keyword: str) -> list[Json] | None:
    """Return a code sequence (PS3.3 8.8) as CodeableConcepts."""
    found = [concept for item in sequence(row, keyword) if (concept := _concept(item))]
    return found or None


def _concept(item: Row) -> Json | None:
    code = _printable(text(item, "CodeValue") or text(item, "LongCodeValue") or "")
    meaning, system = printable(item, "CodeMeaning"), _system(item, code)
    concept: Json = {}
    if code is not None and _CODE.fullmatch(code):
        version = printable(item, "CodingSchemeVersion") if system else None
        coding = {"system": system, "version": version, "code": code, "display": meaning}
        concept["coding"] = [present(coding)]
    return present(concept | {"text": meaning}) or None


def present(elements: Json) -> Json:
    """Return the elements that have a value: FHIR JSON has no nulls."""
    return {name: value for name, value in elements.items() if value is not None}


def _system(item: Row, value: str | None) -> str | None:
    designator = text(item, "CodingSchemeDesignator") or ""
    if designator == "SRT" and not _SCT_ID.fullmatch(value or ""):
        return None
    uid = text(item, "CodingSchemeUID") or ""
    return _SYSTEMS.get(designator) or (f"urn:oid:{uid}" if _OID.fullmatch(uid) else None)


def reasons(row: Row) -> list[Json] | None:
    """Return the requested procedure's reason, coded or as text, else the admitting diagnoses."""
    for item in (row, *sequence(row, "RequestAttributesSequence")):
        if coded := concepts(item, "ReasonForRequestedProcedureCodeSequence"):
            return coded
        if words := printable(item, "ReasonForTheRequestedProcedure"):
            return [{"text": words}]
    return concepts(row, "AdmittingDiagnosesCodeSequence")


def placer_order_number(row: Row) -> str | None:
    """Return the number that the order has at whoever placed it."""
    return printable(row, "PlacerOrderNumberImagingServiceRequest")


def based_on(row: Row) -> list[Json] | None:
    """Return the order, by its placer order number."""
    number = placer_order_number(row)
    if number is None:
        return None
    kind = {"coding": [{"system": _V2_IDENTIFIER_TYPE, "code": "PLAC"}]}
    return [{"type": "ServiceRequest", "identifier": {"type": kind, "value": number}}]


def laterality(row: Row) -> Json | None:
    """Return the laterality: left, right or both."""
    return _LATERALITY.get((text(row, "Laterality") or "").upper())


def performers(row: Row) -> list[Json] | None:
    """Return the performers of a series."""
    names = (person(row, "PerformingPhysicianName"), person(row, "OperatorsName"))
    found = [{"function": {"coding": [_PERFORMER]}, "actor": name} for name in names if name]
    return found or None


def title(row: Row) -> str | None:
    """Return an instance's title: a presentation's label, a document's title, a report's name."""
    names = [printable(row, keyword) for keyword in ("ContentLabel", "DocumentTitle")]
    names += [printable(item, "CodeMeaning") for item in sequence(row, "ConceptNameCodeSequence")]
    return next(filter(None, names), None)
