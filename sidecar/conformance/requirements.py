"""Texts of the requirements that a client can check (docs/conformance.md has all of them)."""

from sidecar.conformance.levels import MAY, SHALL, WISH

REQUIREMENTS = {
    1: "The EHR's .well-known/smart-configuration has smart-imaging-access among its capabilities, "
    "or names the imaging server's FHIR base in associated_endpoints with it.",
    2: "Beside smart-imaging-access stands app-launch and/or backend-services of the guide. With "
    "app-launch, grant_types_supported has authorization_code; with backend-services it has "
    "client_credentials, and private_key_jwt and its algorithms are listed.",
    3: "[base]/.well-known/smart-configuration and [base]/metadata (a CapabilityStatement, "
    "fhirVersion 4.0.1) are there without a token, for pages in browsers, too.",
    10: "Each FHIR request and each retrieval needs an active token; else 401 "
    "with WWW-Authenticate: Bearer.",
    11: "A token's scopes cover the request: ImagingStudy.rs reads and searches, and writes "
    "nothing.",
    12: "The patient of an App Launch token is the patient of everything that it brings.",
    13: "A Backend Services client has the access that was authorized for it, and no other.",
    14: "A token without a patient in context is never system-level access.",
    15: "Grants are not combined: each scope keeps its own context and restrictions.",
    16: "Nothing is served while permissions cannot be established.",
    17: "The server's own credentials never widen the caller's access.",
    20: "GET [base]/ImagingStudy with patient, _lastUpdated, identifier and "
    "_include=ImagingStudy:endpoint; patient=Patient/123, subject=Patient/123 and POST "
    "[base]/ImagingStudy/_search mean the same.",
    21: "Searches are filtered by _lastUpdated and started when the client supplies them.",
    22: "A search for a patient who is not the token's, or outside a Backend Services client's "
    "access, is a 403, not an empty Bundle.",
    23: "While a search takes longer, 503 with Retry-After in seconds.",
    24: "A search is answered by a searchset Bundle of application/fhir+json with total, link "
    "self, and search.mode match or include of each entry.",
    25: "A client need not fetch again what it has.",
    30: "An ImagingStudy has id, one identifier urn:dicom:uid with urn:oid:<UID>, status, subject, "
    "modality.",
    31: "An Endpoint has status active, connectionType dicom-wado-rs, payloadType, and as address "
    "the WADO-RS base URL; by the texts of 2026-08 also requires-access-token once.",
    32: "The address follows [base]/Patient/123/$wado-rs (the guide's forerunner of 2021).",
    33: "An Endpoint that stands in one answer alone (urn:uuid:) is on the same page as each study "
    "that refers to it, with and without _include.",
    39: "Each retrieval carries the access token of the search; without one it is a 401.",
    40: "GET [address]/studies/{uid} with Accept: multipart/related; type=application/dicom; "
    "transfer-syntax=* returns the whole study, an instance a part, stored bytes untouched.",
    41: "Series, instance, metadata, frames, rendered and bulk data should be there; what comes is "
    "what was asked for.",
    42: "Every form of retrieval gets the same checks; another study's UID under an allowed URL is "
    "refused.",
    43: "An answer with part of a study never looks whole.",
    44: "While images are staged, 503 with Retry-After.",
    45: "A denial brings no data, and does not tell whether a study exists.",
    50: "A capability URL works together with the access token with which it was found, and not "
    "without it.",
    51: "A capability URL cannot be guessed, changed, or widened by appending paths.",
    52: "A capability URL is issued after full checks, and ends no later than its token.",
    53: "Lifetimes and revocation of capability URLs are documented.",
    54: "Credentials do not get about: no token in addresses, answers are not for shared caches, "
    "capability URLs are not sent on as referrers.",
    55: "After a 401 or 403 of a retrieval, a search by patient and identifier brings an Endpoint "
    "that works.",
    60: "Accesses are recorded.",
}

CORS = (
    "Apps that are pages in browsers get there, too: CORS for every origin on the two documents "
    "without a token, for the apps' origins on all else (SMART App Launch on CORS)."
)
OUTCOMES = "An error of FHIR has an OperationOutcome that says what is wrong (FHIR R4, http.html)."
ACCEPT = "What comes is what Accept asks for; when it cannot be had, 406 (RFC 9110 15.5.7)."
"""Texts for checks of what other standards demand."""

BEYOND_A_CLIENT = {
    11: (SHALL, "other scopes than this token's need other tokens"),
    14: (SHALL, "it needs a token with patient/ scopes and no patient"),
    15: (SHALL, "it needs a token with several grants"),
    16: (SHALL, "it needs an authorization server that fails"),
    17: (MAY, "it cannot be seen from outside"),
    52: (SHALL, "the end of a capability URL's lifetime is not waited for"),
    53: (SHALL, "it stands in the server's documents"),
    60: (WISH, "it cannot be seen from outside"),
}
"""Requirements that no client can check with the tokens that it may have: level, and why."""
