"""Searches whose answers we and HAPI FHIR are compared by, of the studies of tests/real/hapi/studies.py.

``{between}`` is a moment between the studies that came first and those that came later, and ``{long}`` the id of the study
whose UID is too long for one. ``python -m tests.real.hapi.compare`` writes the rows of ``DIFFERENCES`` that are out of date.
"""
# fmt: off

PREFIXES = ("", "eq", "ne", "gt", "lt", "ge", "le", "sa", "eb")
UID_SYSTEM = "urn:dicom:uid"
ACCESSIONS = "https://hospital.example.org/accession-numbers"
DCM = "http://dicom.nema.org/resources/ontology/DCM"
STATUS = "http://hl7.org/fhir/imagingstudy-status"
ACSN = "http://terminology.hl7.org/CodeSystem/v2-0203|ACSN"
CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
LONG = "2.25." + "8" * 64

STARTED = [
    *(f"started={prefix}{value}" for value in (
        "2020", "2020-01", "2020-01-15", "2020-01-15T10:30:00%2B01:00", "2020-01-15T09:30:00Z", "2020-01-15T10:30%2B01:00",
        "2020-01-15T10:30:00.000%2B01:00", "2020-02-01T04:30:00Z", "1997-04-24") for prefix in PREFIXES),
    *(f"started={value}" for value in (
        "2020-01-15T10:30:00", "2020-01-15T10:30", "2020-02-29", "2020-02-29T00:00:00Z", "2020-02-29T01:00:00%2B01:00",
        "2019-12-31T23:00:00Z", "2019", "2021-03-28", "2099-01-01", "2098-12-31", "1900", "1899",
        "2021-06-01T10:00:00.500Z", "2021-06-01T12:00:00%2B02:00", "2020-01-16", "2020-06-31", "2020-13", "20200115", "yesterday",
        "ap2020-01-15", "xx2020-01-15", "ge2020&started=lt2021", "gt2020-01-15&started=lt2020-02", "sa2019&started=eb2020-02",
        "ge2020-01-15T10:30:00%2B01:00&started=le2020-01-15T10:30:00%2B01:00", "2020&started=2021", "2020-01-15,2020-02-29",
        "lt1998,gt2021", "2020-01,2021-06", "")),
    *(f"started:{value}" for value in ("missing=true", "missing=false", "missing=maybe", "not=2020", "exact=2020")),
]
LAST_UPDATED = [
    *(f"_lastUpdated={prefix}{{between}}" for prefix in PREFIXES),
    *(f"_lastUpdated={value}" for value in (
        "gt2000", "lt2000", "ge2000-01-01", "lt2199-12-31", "gt2199", "2000", "ne2000", "sa2000", "eb2000", "never",
        "ge2000&_lastUpdated=lt{between}", "lt{between},gt{between}", "gt{between}&started=gt2019", "lt{between}&modality=CT")),
    "_lastUpdated:missing=true",
]
IDENTIFIER = [
    *(f"identifier={value}" for value in (
        "urn:oid:2.25.4", "2.25.4", f"{UID_SYSTEM}|urn:oid:2.25.4", f"{UID_SYSTEM}|2.25.4", "urn:ietf:rfc:3986|urn:oid:2.25.4",
        "|urn:oid:2.25.4", f"{UID_SYSTEM}|", "urn:oid:2.25.19", "urn:oid:2.25.999", "urn:oid:2.25.4.1", "URN:OID:2.25.4",
        "urn:oid:2.25.1,urn:oid:2.25.2", f"{UID_SYSTEM}|urn:oid:2.25.1,{ACCESSIONS}|A-2", f"urn:oid:{LONG}",
        "A-1", "a-1", "A-2", f"{ACCESSIONS}|A-1", f"{ACCESSIONS}|a-1", "|A-1", "https://other.example.org|A-1", f"{ACCESSIONS}|",
        "A-1,A-2", "A", "A-", "10", "2.25.11", "B\\,5", "B,5", "B\\|6", "B|6", "B\\$7", "B$7", "", "|", "no such",
        f"{UID_SYSTEM}||x", "A-1&identifier=urn:oid:2.25.16", "A-1&started=lt2020-02")),
    *(f"identifier:{value}" for value in ("missing=true", "missing=false", "not=A-1", "text=A", f"of-type={ACSN}|A-2")),
]
TOKENS = [
    *(f"{name}={value}" for name, values in {
        "_id": ("2.25.1", "2.25.1,2.25.2", "2.25.999", "2.25.19", "{long}", "|2.25.1", "A-1", "ImagingStudy/2.25.1"),
        "modality": (
            "CT", "ct", "Ct", "CT,MR", "SR", "OT", "PR", f"{DCM}|CT", f"{DCM}|ct", f"{DCM}|", "|CT", "http://other.example.org|CT",
            "XX", "CT,", "", "C", f"{DCM}|CT,{DCM}|US"),
        "status": ("available", "AVAILABLE", f"{STATUS}|available", f"{STATUS}|", "|available", "registered", "available,cancelled"),
        "bodysite": ("CHEST", "chest", "Abdomen", "HAND,CHEST", "|CHEST", "CHE", "NECK", "http://snomed.info/sct|"),
        "series": (
            "2.25.1.1", "urn:oid:2.25.1.1", "2.25.1.2", "2.25.1", "2.25.19.1", "2.25.1.1,2.25.4.2", f"{UID_SYSTEM}|2.25.1.1",
            "|2.25.1.1"),
        "instance": (
            "2.25.1.1.1", "urn:oid:2.25.1.1.1", "2.25.1.2.2", "2.25.1.1.3", "2.25.19.1.1", "2.25.1.1.1,2.25.4.2.1",
            f"{UID_SYSTEM}|2.25.1.1.1", "|2.25.1.1.1"),
        "dicom-class": (
            f"urn:oid:{CT}", CT, f"urn:ietf:rfc:3986|urn:oid:{CT}", f"urn:oid:{MR},urn:oid:{CT}", "urn:oid:1.2.3", f"|urn:oid:{CT}"),
        "endpoint": ("Endpoint/p1", "p1", "Endpoint/p2", "Endpoint/p1,Endpoint/p2"),
    }.items() for value in values),
    "modality=CT&modality=PT", "modality=CT&modality=MR", "modality=CT&series=2.25.12.1", "modality=CR&started=2020",
    "_id=2.25.1,2.25.4&modality=MR", "series=2.25.1.1&series=2.25.1.2", "series=2.25.1.1&instance=2.25.1.2.1",
    *(f"modality:{value}" for value in (
        "not=CT", "not=CT,MR", "not=ct", f"not={DCM}|CT", "not=XX", "missing=true", "missing=false", "text=CT",
        "in=http://example.org/set", "above=CT", "=CT")),
    "status:not=available", "status:not=cancelled", "status:missing=true", "status:exact=available",
    "bodysite:not=CHEST", "bodysite:missing=true", "bodysite:missing=false", "series:not=2.25.1.1", "series:missing=true",
    "series:missing=false", "instance:not=2.25.1.1.1", "instance:missing=true", f"dicom-class:not=urn:oid:{CT}",
    "dicom-class:missing=false", "endpoint:missing=true", "_id:not=2.25.1", "_id:missing=true", "bodysite:text=CHEST",
]
REFERENCES = [
    "patient=p1", "patient=Patient/p1", "subject=p1", "subject=Patient/p1", "subject:Patient=p1", "patient:Patient=p1",
    "patient=Patient/p1&subject=p1", "patient=p2", "patient=p1,p2", "patient=", "subject=Group/p1", "patient:missing=false",
    "subject.name=Doe", "patient.identifier=http://example.org|1", "_has:Observation:subject:code=x", "endpoint.status=active",
    "basedon=ServiceRequest/1", "encounter=Encounter/1", "interpreter=Practitioner/1", "performer=Practitioner/1",
    "referrer=Practitioner/1", "no-such=1", "_tag=x", "_profile=http://example.org/p", "_source=x", "_text=x",
    "_content=x", "_filter=status eq available",
    *(f"reason={value}" for value in ("49727002", "http://snomed.info/sct|49727002", "49727002,23685000", "x")),
    *(f"{name}:missing={value}" for name in ("reason", "basedon", "encounter", "interpreter", "performer", "referrer", "_tag", "_profile")
        for value in ("true", "false")),
]
RESULTS = [
    *(f"_sort={value}" for value in (
        "started", "-started", "_lastUpdated,started", "_lastUpdated,-started", "-_lastUpdated,started", "-_lastUpdated,-started",
        "_id", "-_id", "started,_id", "modality", "identifier", "status", "no-such", "started,started", "", "started&started=gt2019",
        "-started&started=gt2019&_count=3", "started&modality=CT&_count=2")),
    "_sort:desc=started",
    *(f"_count={value}" for value in (
        "1", "2", "5", "17", "18", "19", "100", "500", "501", "100000", "0", "-1", "x", "", "3&started=gt2019", "2&modality=CT,MR",
        "1&identifier=A-1", "0&modality=CT")),
    *(f"_summary={value}" for value in (
        "true", "false", "text", "data", "count", "x", "count&modality=CT", "count&started=1850", "count&_count=3",
        "text&_elements=id")),
    *(f"_total={value}" for value in ("accurate", "none", "estimate", "x", "accurate&_count=3")),
    "_elements=status", "_elements=started,subject", "_elements=ImagingStudy.status",
    *(f"_include={value}" for value in ("ImagingStudy:endpoint", "*", "ImagingStudy:patient", "ImagingStudy:*", "no-such", "ImagingStudy:endpoint&_count=5")),
    "_include:iterate=ImagingStudy:endpoint", "_revinclude=Observation:subject", "_revinclude=*",
    "_format=json", "_format=application/fhir%2Bjson", "_pretty=true", "_pretty=false",
    "_contained=false", "_containedType=contained", "_maxresults=5", "_offset=5", "_graph=x", "_score=true",
]
QUERIES = [*STARTED, *LAST_UPDATED, *IDENTIFIER, *TOKENS, *REFERENCES, *RESULTS]

# HAPI's faults and limits.
SPAN = "HAPI takes ge and le of a year or month as gt and lt; R4's include what is inside of it (search.html#prefix)."
OWN_DAY = "HAPI compares days as each is written at its study's own offset; we compare instants, the search value's in the hospital's zone."
SECOND = "A time without a fraction is the whole second by R4 (search.html#date), which a millisecond does not contain. HAPI takes it as .000."
AP = "HAPI has no ap."
META_MISSING = "HAPI leaves :missing of meta out; each resource of ours has lastUpdated, and none a tag or profile."
OR_OF_DATES = "HAPI-1930 and HAPI-1922: a date parameter takes no alternatives there, and eq but once."
BODY_SITE = "We know BodyPartExamined as a text, which is bodySite.display; HAPI looks for codes."
SUBSETS = "HAPI refuses _summary=text beside _elements; with us _elements decides."
# What is stricter with us.
MODIFIERS = "We refuse modifiers that we do not have, as R4 demands (search.html#modifiers); HAPI ignores some, and has others."
VALUES = "We refuse a value that R4 does not have; HAPI takes one for it, or all."
EMPTY = "We refuse a search for a study or patient whose value was lost; HAPI finds all."
NOTHING = "Without a system and a code, an identifier names nothing; HAPI finds all."
OTHER_PATIENT = "The token is another patient's (SIA-22)."
FILTERS = "We refuse a filter that the archive cannot answer, for ignored it would find more; HAPI finds nothing by it."
CHAINS = "We have no resources but ImagingStudy and Endpoint to look into, and refuse."
TYPED_ID = "HAPI takes ImagingStudy/<id> for an id."
# What is more lenient with us.
UIDS = "We take a UID with and without urn:oid:, and with the systems of UIDs."
CASE = "Codes are compared without case, as R4 has it (search.html#token); HAPI compares them with it, as R5 has it."
UNKNOWN = "R4: unknown parameters should be ignored (search.html#errors). We name them in the answer, unknown orders and includes, too."
IGNORED = "A parameter that we do not have is ignored, and named in the answer."
SORTS = "We sort by started, _lastUpdated and _id, each once; another order is ignored, and named in the answer."
WIDENED = "Nothing here can be found by it. It is ignored, and named in the answer as what would have left fewer studies."
NO_START = "A study without a date is the oldest with us, the last of all with HAPI; R4 does not say."

DIFFERENCES: dict[str, tuple[str, str]] = {
    "started=ge2020": ("we find 1 2 3 4 6 13 14 16 18", SPAN),
    "started=le2020": ("we find 1 2 3 4 13 14 16 18", SPAN),
    "started=2020-01": ("HAPI finds 3", OWN_DAY),
    "started=eq2020-01": ("HAPI finds 3", OWN_DAY),
    "started=ne2020-01": ("we find 3", OWN_DAY),
    "started=gt2020-01": ("we find 3", OWN_DAY),
    "started=ge2020-01": ("we find 1 2 6 13 14", SPAN),
    "started=le2020-01": ("we find 1 2 13 14", SPAN),
    "started=sa2020-01": ("we find 3", OWN_DAY),
    "started=2020-01-15T10:30:00.000%2B01:00": ("HAPI finds 1", SECOND),
    "started=eq2020-01-15T10:30:00.000%2B01:00": ("HAPI finds 1", SECOND),
    "started=ne2020-01-15T10:30:00.000%2B01:00": ("we find 1", SECOND),
    "started=gt2020-01-15T10:30:00.000%2B01:00": ("we find 1", SECOND),
    "started=le2020-01-15T10:30:00.000%2B01:00": ("HAPI finds 1", SECOND),
    "started=2099-01-01": ("HAPI finds 10", OWN_DAY),
    "started=2098-12-31": ("we find 10", OWN_DAY),
    "started=ap2020-01-15": ("HAPI refuses", AP),
    "started=ge2020&started=lt2021": ("we find 1 2 3 4 6 13 14 16 18", SPAN),
    "started=gt2020-01-15&started=lt2020-02": ("HAPI finds 3", OWN_DAY),
    "started=sa2019&started=eb2020-02": ("HAPI finds 3", OWN_DAY),
    "started=2020&started=2021": ("HAPI refuses", OR_OF_DATES),
    "started=2020-01-15,2020-02-29": ("HAPI refuses", OR_OF_DATES),
    "started=lt1998,gt2021": ("HAPI refuses", OR_OF_DATES),
    "started=2020-01,2021-06": ("HAPI refuses", OR_OF_DATES),
    "started:missing=maybe": ("we refuse", VALUES),
    "started:not=2020": ("we refuse", MODIFIERS),
    "started:exact=2020": ("we refuse", MODIFIERS),
    "_lastUpdated=lt{between},gt{between}": ("HAPI refuses", OR_OF_DATES),
    "_lastUpdated:missing=true": ("HAPI finds 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18", META_MISSING),
    "identifier=2.25.4": ("we find 4", UIDS),
    "identifier=urn:dicom:uid|2.25.4": ("we find 4", UIDS),
    "identifier=urn:ietf:rfc:3986|urn:oid:2.25.4": ("we find 4", UIDS),
    "identifier=": ("we refuse", EMPTY),
    "identifier=|": ("HAPI finds 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18", NOTHING),
    "identifier:text=A": ("we ignore", WIDENED),
    "_id=ImagingStudy/2.25.1": ("HAPI finds 1", TYPED_ID),
    "modality=ct": ("we find 1 2 11 12 13 16", CASE),
    "modality=Ct": ("we find 1 2 11 12 13 16", CASE),
    "modality=http://dicom.nema.org/resources/ontology/DCM|ct": ("we find 1 2 11 12 13 16", CASE),
    "status=AVAILABLE": ("we find 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18", CASE),
    "bodysite=CHEST": ("we find 1 8 16", BODY_SITE),
    "bodysite=chest": ("we find 1 8 16", BODY_SITE),
    "bodysite=Abdomen": ("we find 2 5 6", BODY_SITE),
    "bodysite=HAND,CHEST": ("we find 1 8 12 13 16", BODY_SITE),
    "bodysite=|CHEST": ("we find 1 8 16", BODY_SITE),
    "series=urn:oid:2.25.1.1": ("we find 1", UIDS),
    "series=urn:dicom:uid|2.25.1.1": ("we find 1", UIDS),
    "instance=urn:oid:2.25.1.1.1": ("we find 1", UIDS),
    "instance=urn:dicom:uid|2.25.1.1.1": ("we find 1", UIDS),
    "dicom-class=1.2.840.10008.5.1.4.1.1.2": ("we find 1 2 11 12 13 16", UIDS),
    "modality:not=ct": ("HAPI finds 1 2 11 12 13 16", CASE),
    "modality:text=CT": ("we ignore", WIDENED),
    "modality:=CT": ("we refuse", MODIFIERS),
    "status:exact=available": ("we refuse", MODIFIERS),
    "bodysite:not=CHEST": ("HAPI finds 1 8 16", BODY_SITE),
    "bodysite:missing=true": ("HAPI finds 1 2 3 4 5 6 8 9 10 12 13 14 16 17", BODY_SITE),
    "bodysite:missing=false": ("we find 1 2 3 4 5 6 8 9 10 12 13 14 16 17", BODY_SITE),
    "patient=p2": ("we refuse", OTHER_PATIENT),
    "patient=p1,p2": ("we refuse", OTHER_PATIENT),
    "patient=": ("we refuse", EMPTY),
    "subject=Group/p1": ("we refuse", OTHER_PATIENT),
    "subject.name=Doe": ("we refuse", CHAINS),
    "patient.identifier=http://example.org|1": ("we refuse", OTHER_PATIENT),
    "_has:Observation:subject:code=x": ("we ignore", WIDENED),
    "endpoint.status=active": ("we refuse", CHAINS),
    "basedon=ServiceRequest/1": ("we refuse", FILTERS),
    "encounter=Encounter/1": ("we refuse", FILTERS),
    "interpreter=Practitioner/1": ("we refuse", FILTERS),
    "performer=Practitioner/1": ("we refuse", FILTERS),
    "referrer=Practitioner/1": ("we refuse", FILTERS),
    "no-such=1": ("HAPI refuses", UNKNOWN),
    "_tag=x": ("we refuse", FILTERS),
    "_profile=http://example.org/p": ("we refuse", FILTERS),
    "_source=x": ("we refuse", FILTERS),
    "_tag:missing=false": ("HAPI finds 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18", META_MISSING),
    "_profile:missing=false": ("HAPI finds 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18", META_MISSING),
    "_sort=started": ("our order is 7 15 8 17 5 6 2 1 13 14 3 4 16 18 11 9 12 10, HAPI's 15 8 17 5 6 2 1 13 14 3 4 16 18 11 9 12 10 7", NO_START),
    "_sort=_lastUpdated,started": ("our order is 7 15 8 5 6 2 1 13 14 3 4 11 9 12 10 17 16 18, HAPI's 15 8 5 6 2 1 13 14 3 4 11 9 12 10 7 17 16 18", NO_START),
    "_sort=-_lastUpdated,started": ("our order is 17 16 18 7 15 8 5 6 2 1 13 14 3 4 11 9 12 10, HAPI's 17 16 18 15 8 5 6 2 1 13 14 3 4 11 9 12 10 7", NO_START),
    "_sort=started,_id": ("our order is 7 15 8 17 5 6 2 1 13 14 3 4 16 18 11 9 12 10, HAPI's 15 8 17 5 6 2 1 13 14 3 4 16 18 11 9 12 10 7", NO_START),
    "_sort=modality": ("we ignore", SORTS),
    "_sort=identifier": ("we ignore", SORTS),
    "_sort=status": ("we ignore", SORTS),
    "_sort=no-such": ("HAPI refuses", UNKNOWN),
    "_sort=started,started": ("we ignore", SORTS),
    "_count=-1": ("we refuse", VALUES),
    "_summary=x": ("we refuse", VALUES),
    "_summary=text&_elements=id": ("HAPI refuses", SUBSETS),
    "_total=x": ("we refuse", VALUES),
    "_include=no-such": ("HAPI refuses", UNKNOWN),
    "_offset=5": ("we ignore", IGNORED),
}
"""Of a query: how the two answers differ, and why."""
