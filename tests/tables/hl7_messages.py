"""What HL7's validator says of our documents, by a part of each message, and why it may."""

# fmt: off
NARRATIVE = "Best practice: our resources are for programs, and a narrative would name what is left out of a subset."
ELSEWHERE = "The validator has FHIR's own definitions, and reaches no network; these are DICOM's, IHE's, SNOMED's, RSNA's, or of THO."
EXTENSIBLE = "The binding is extensible; PS3.15 A.5.3 and IHE BALP say this code."

ACCEPTED: dict[str, str] = {
    "DomainResource#dom-6\t": NARRATIVE,
    "ValueSet 'http://dicom.nema.org/medical/dicom/current/output/": ELSEWHERE,
    "ValueSet 'http://www.rsna.org/RadLex_Playbook.aspx' not found": ELSEWHERE,
    "codeSystem 'http://snomed.info/sct' version 'null' is not supported": ELSEWHERE,
    "BasicAuditEntityType for 'https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType#XrequestId'": ELSEWHERE,
    "BALP/StructureDefinition/IHE.BasicAudit.": ELSEWHERE,
    "http://terminology.hl7.org/CodeSystem/restful-security-service#SMART-on-FHIR": ELSEWHERE,
    "None of the codings provided are in the value set 'Restful Security Service'": ELSEWHERE,
    "(https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType#XrequestId) was not found": EXTENSIBLE,
    "(http://dicom.nema.org/resources/ontology/DCM#110104) was not found": EXTENSIBLE,
    "(http://dicom.nema.org/resources/ontology/DCM#110112) was not found": EXTENSIBLE,
    "Unable to resolve package id hl7.fhir.r": "For the snapshot of a StructureDefinition the validator wants a package from the network; it has made that snapshot for the extension's use.",
}
"""Of warnings, and of one error that is the validator's own."""

BROKEN = {
    "no status": ("r4/plain-study", "/status", None, "ImagingStudy.status: minimum required = 1"),
    "a status of nobody": ("r4/plain-study", "/status", "ready", "ready"),
    "R5's modality in R4": ("r4/plain-study", "/modality/0", {"coding": [{"code": "CT"}]}, "coding"),
    "R4's modality in R5": ("r5/plain-study", "/modality/0", {"system": "urn:x", "code": "CT"}, "system"),
    "a text in the place of a number": ("r4/plain-study", "/series/0/numberOfInstances", "3", "numberOfInstances"),
    "frames without their number": ("r4/plain-study", "/series/0/instance/0/extension/0/valueInteger", None, "StructureDefinition/number-of-frames"),
    "a search result without an id": ("r4/capabilities-search-peter", "/entry/0/resource/id", None, "Search results must have ids"),
    "an event without a time": ("r4/audit-rest-read-0-PatientRead", "/recorded", None, "AuditEvent.recorded: minimum required = 1"),
    "an issue without a code": ("r4/plain-fault-date", "/issue/0/code", None, "OperationOutcome.issue.code: minimum required = 1"),
}
"""Documents that are none: of which, the element, what it becomes (``None``: it is gone), and a part of the error."""
