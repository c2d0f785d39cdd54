"""The settings of permissions (``access``)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import field
from pathlib import Path
from typing import Annotated, Literal

from sidecar.access.facts import is_fhir_id
from sidecar.settings.section import Section
from sidecar.settings.types import (
    AT_LEAST_ONE,
    CertificatesFile,
    Constraint,
    SecretFile,
    Url,
    checked,
    length,
    needs_each_other,
    number,
    read_text,
    secret_in,
)

_DATES = re.compile(r"[0-9]{8}|[0-9]{8}-|-[0-9]{8}|[0-9]{8}-[0-9]{8}", re.ASCII)


def _check_dates(conditions: Mapping[str, Sequence[str]]) -> None:
    for value in conditions.get("StudyDate", ()):
        if not _DATES.fullmatch(value):
            raise ValueError(
                "StudyDate must be dates or ranges: "
                "20240101, 20240101-20241231, -20241231, 20240101-"
            )


def _check_fhir_id(value: str) -> None:
    if not is_fhir_id(value):
        raise ValueError("must be a FHIR id alone, such as 123")


def _check_not_empty(conditions: Mapping[str, Sequence[str]]) -> None:
    if not conditions:
        raise ValueError("has no condition")


Pattern = Annotated[str, length(min_length=1, max_length=64)]
Patterns = Annotated[tuple[Pattern, ...], AT_LEAST_ONE]
StudyConditions = Annotated[
    dict[
        Literal[
            "AccessionNumber",
            "ConfidentialityCode",
            "InstitutionName",
            "InstitutionalDepartmentName",
            "ModalitiesInStudy",
            "RequestingService",
            "StudyDate",
            "StudyDescription",
            "StudyID",
        ],
        Patterns,
    ],
    checked(_check_dates),
    checked(_check_not_empty),
]
"""Patterns with ``*`` and ``?`` for each DICOM keyword."""
SeriesConditions = Annotated[
    dict[
        Literal[
            "BodyPartExamined",
            "InstitutionName",
            "InstitutionalDepartmentName",
            "Modality",
            "ProtocolName",
            "SeriesDescription",
            "SeriesNumber",
            "StationName",
        ],
        Patterns,
    ],
    checked(_check_not_empty),
]
FhirId = Annotated[str, checked(_check_fhir_id)]


class RuleSettings(Section):
    """A study rule."""

    name: Annotated[str, length(min_length=1, max_length=100)]
    """Name of the rule, for people and for `check`."""
    effect: Literal["exclude", "hold", "show"]
    """exclude: it is hidden.

    hold: it is hidden until `hours` after its beginning. show: no later rule applies.
    """
    study: StudyConditions | None = None
    """Conditions that a study must meet, all of them. null: every study."""
    series: SeriesConditions | None = None
    """Conditions that a series must meet, all of them.

    The rule then applies to those series only. null: the whole study.
    """
    hours: Annotated[float, number("hours", gt=0, le=87_600)] | None = None
    """hold: hours after StudyDate and StudyTime, after which the rule applies no longer.

    Without a time they count from the end of that day.
    """
    unknown: Literal["applies", "ignored"] = "applies"
    """exclude, hold: whether the rule applies where the archive has no value for an attribute."""

    def __post_init__(self) -> None:
        needs_each_other(
            "effect hold", is_chosen=self.effect == "hold", key="hours", value=self.hours
        )


class ClientSettings(Section):
    """A Backend Services client."""

    patients: tuple[FhirId, ...] = ()
    """FHIR ids of the patients whom the client may see."""
    patients_file: Annotated[Path, checked(read_text)] | None = None
    """File with further FHIR ids, one on each line.

    It is read again when it changes. While it cannot be read, it names nobody.
    """
    groups: tuple[FhirId, ...] = ()
    """FHIR ids of Groups at the EHR whose members the client may see.

    They are read with patients.client.
    """
    studies: StudyConditions | None = None
    """Conditions that their studies must meet, all of them. null: every study."""
    rules: bool = True
    """Apply access.rules to this client, too."""


class ExternalSettings(Section):
    """An external policy, compatible with Open Policy Agent."""

    url: Url | None = None
    """URL that is asked about each study by POST, for instance
    http://opa:8181/v1/data/imaging/access. Without its answer nothing is served. null: off.
    """
    token_file: SecretFile | None = None
    """File with a bearer token for the policy server."""
    ca_file: CertificatesFile | None = None
    """PEM file with the certificate authorities to trust for it. null: the system's."""

    def token(self) -> str | None:
        """Return the bearer token, if there is one."""
        return None if self.token_file is None else secret_in(self.token_file)


class Access(Section):
    """What is switched on, for whom, and what is hidden."""

    app_launch: bool = True
    """Serve apps with patient/ scopes (SMART App Launch)."""
    user_level: bool = False
    """Also accept user/ scopes of a token with a patient in context, for that patient only."""
    backend_services: bool = False
    """Serve access.clients with system/ scopes (SMART Backend Services)."""
    clients: Annotated[dict[str, ClientSettings], Constraint(default={})] = field(
        default_factory=dict
    )
    """What each client may see, by its client_id. A client that is not named here sees nothing."""
    rules: tuple[RuleSettings, ...] = ()
    """Rules that hide studies and series, or hold them back.

    Among the rules for studies, and among those for series, the first that applies decides.
    """
    external: ExternalSettings = ExternalSettings()

    def __post_init__(self) -> None:
        if self.clients and not self.backend_services:
            raise ValueError("clients are for backend_services, which is off")
