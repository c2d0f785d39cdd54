"""Who may see what: ``access``, a part of the configuration."""

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from sidecar.access.facts import is_fhir_id
from sidecar.settings.types import (
    NO_BOOLEAN,
    CertificatesFile,
    Seconds,
    SecondsFromZero,
    SecretFile,
    Section,
    Url,
    read_text,
    secret_of,
)

_DATES = re.compile(r"[0-9]{8}|[0-9]{8}-|-[0-9]{8}|[0-9]{8}-[0-9]{8}", re.ASCII)


def _dates(conditions: dict[str, list[str]]) -> dict[str, list[str]]:
    for value in conditions.get("StudyDate", ()):
        if not _DATES.fullmatch(value):
            raise ValueError(
                "StudyDate must be dates or ranges: 20240101, 20240101-20241231, -20241231, 20240101-"
            )
    return conditions


def _fhir_id(value: str) -> str:
    if not is_fhir_id(value):
        raise ValueError("must be a FHIR id alone, such as 123")
    return value


def _not_empty(conditions: dict[str, list[str]]) -> dict[str, list[str]]:
    if not conditions:
        raise ValueError("has no condition")
    return conditions


Pattern = Annotated[str, Field(min_length=1, max_length=64)]
Patterns = Annotated[list[Pattern], Field(min_length=1)]
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
    AfterValidator(_dates),
    AfterValidator(_not_empty),
]
"""DICOM keyword -> patterns with ``*`` and ``?``."""
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
    AfterValidator(_not_empty),
]
FhirId = Annotated[str, AfterValidator(_fhir_id)]


class RuleSettings(Section):
    """A study rule."""

    name: str = Field(min_length=1, max_length=100, description="For people, and for `check`")
    effect: Literal["exclude", "hold", "show"] = Field(
        description="exclude: not there; hold: not there until `hours` after its beginning; show: no later rule applies"
    )
    study: StudyConditions | None = Field(
        None, description="What must hold of the study, all of it; null: every study"
    )
    series: SeriesConditions | None = Field(
        None,
        description="What must hold of a series: the rule is for those series alone, the rest of the study stays",
    )
    hours: Annotated[float, Field(gt=0, le=87_600, allow_inf_nan=False), NO_BOOLEAN] | None = Field(
        None,
        description="hold: how long after StudyDate and StudyTime (without a time: after the end of that day)",
    )
    unknown: Literal["applies", "ignored"] = Field(
        "applies",
        description="exclude, hold: whether the rule applies where the archive has no value for an attribute",
    )

    @model_validator(mode="after")
    def _fits_the_effect(self) -> "RuleSettings":
        if (self.effect == "hold") != (self.hours is not None):
            raise ValueError("effect hold needs hours, and hours needs effect hold")
        return self


def _readable(file: Path) -> Path:
    read_text(file)
    return file


class ClientSettings(Section):
    """A Backend Services client."""

    patients: list[FhirId] = Field([], description="FHIR ids of the patients whom it may see")
    patients_file: Annotated[Path, AfterValidator(_readable)] | None = Field(
        None,
        description="The same in a file, an id on each line; read anew when it changes; unreadable later: nobody",
    )
    groups: list[FhirId] = Field(
        [],
        description="FHIR ids of Groups at the EHR whose members it may see (read with patients.client)",
    )
    studies: StudyConditions | None = Field(
        None, description="What must hold of their studies, all of it; null: all of them"
    )
    rules: bool = Field(True, description="Whether access.rules hold for it, too")


class ExternalSettings(Section):
    """An OPA-compatible policy."""

    url: Url | None = Field(
        None,
        description="Asked about each study by POST, such as http://opa:8181/v1/data/imaging/access; null: off",
    )
    timeout_seconds: Seconds = Field(
        2, description="For its answer; without one nothing is served (503)"
    )
    cache_seconds: SecondsFromZero = Field(
        10, description="How long an answer counts; 0: each time anew"
    )
    token_file: SecretFile | None = Field(None, description="File with a bearer token for it")
    ca_file: CertificatesFile | None = Field(
        None, description="Certificate authorities, PEM; null: the system's"
    )

    def token(self) -> str | None:
        """The bearer token."""
        return None if self.token_file is None else secret_of(None, self.token_file)


class Access(Section):
    """What is switched on, and what is left out."""

    app_launch: bool = Field(True, description="Serve apps with patient/ scopes (SMART App Launch)")
    user_level: bool = Field(
        False,
        description="Also user/ scopes of a token with a patient in context, for that patient alone",
    )
    backend_services: bool = Field(
        False, description="Serve access.clients with system/ scopes (SMART Backend Services)"
    )
    clients: dict[str, ClientSettings] = Field(
        {}, description="client_id -> what it was given; who is not here has nothing"
    )
    rules: list[RuleSettings] = Field(
        [],
        description="Studies and series that are left out, or later shown; in each kind the first that applies decides",
    )

    external: ExternalSettings = ExternalSettings()

    @model_validator(mode="after")
    def _parts_fit(self) -> "Access":
        if self.clients and not self.backend_services:
            raise ValueError("clients are for backend_services, which is off")
        return self
