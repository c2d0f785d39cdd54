"""Denials by the grant paths: what is presented, and the reason."""

from sidecar.access.facts import (
    BackendClient,
    DescribedSeries,
    DescribedStudy,
    Effect,
    Part,
    Policy,
)
from sidecar.access.permits import Interaction, PatientPermit
from sidecar.access.reasons import Reason
from tests.permits import backend_client, make_path, make_policy, make_rule, patient_permit

SEARCH, RETRIEVE = Interaction.SEARCH, Interaction.RETRIEVE
BACKEND = make_policy(backend_services=True)
BACKEND_ALONE = make_policy(app_launch=False, backend_services=True)
CLIENT = backend_client(frozenset({"p1", "p2"}))
SR = make_rule("sr", Effect.EXCLUDE, series={"Modality": ("SR",)})
RULES = (SR,)
BACKEND_DENIALS: list[tuple[str, str | None, str | None, Policy, BackendClient | None, Reason]] = [
    # scopes, the token's patient, the patient asked for
    ("system/*.rs", None, "p1", make_policy(), CLIENT, Reason.INSUFFICIENT_SCOPE),
    ("system/*.rs", None, "p1", BACKEND, None, Reason.UNKNOWN_CLIENT),
    ("system/*.rs", None, "p1", BACKEND, backend_client(), Reason.NOT_THE_CLIENTS_PATIENT),
    ("system/*.rs", None, "p3", BACKEND, CLIENT, Reason.NOT_THE_CLIENTS_PATIENT),
    ("system/*.rs", None, "", BACKEND, CLIENT, Reason.NOT_THE_CLIENTS_PATIENT),
    ("system/*.rs", None, None, BACKEND, CLIENT, Reason.NO_PATIENT_NAMED),
    ("system/*.rs", "p1", None, BACKEND, CLIENT, Reason.NO_PATIENT_NAMED),
    ("system/*.s", None, "p1", BACKEND, CLIENT, Reason.INSUFFICIENT_SCOPE),
    ("system/*.rs?modality=CT", None, "p1", BACKEND, CLIENT, Reason.CONSTRAINED_SCOPE),
    ("user/*.rs", None, "p1", BACKEND, CLIENT, Reason.INSUFFICIENT_SCOPE),
    ("patient/*.rs", None, "p1", BACKEND, CLIENT, Reason.NO_PATIENT_CONTEXT),
    ("patient/*.rs", "p3", "p1", BACKEND, CLIENT, Reason.OTHER_PATIENT),
    ("user/*.rs", None, "p1", make_policy(user_level=True), None, Reason.NO_PATIENT_CONTEXT),
    ("user/*.rs", "p1", "p2", make_policy(user_level=True), None, Reason.OTHER_PATIENT),
    (
        "user/*.rs",
        "p1",
        "p1",
        make_policy(app_launch=False, user_level=True),
        None,
        Reason.APP_LAUNCH_OFF,
    ),
    ("system/*.rs", "p1", "p1", make_policy(user_level=True), CLIENT, Reason.INSUFFICIENT_SCOPE),
    # A token that is for apps, too, is refused as one for apps, unless a name would mend it.
    ("patient/*.rs system/*.rs", None, "p3", BACKEND, CLIENT, Reason.NO_PATIENT_CONTEXT),
    ("patient/*.rs system/*.rs", None, None, BACKEND, CLIENT, Reason.NO_PATIENT_NAMED),
    ("patient/*.rs system/*.rs", "p1", None, BACKEND_ALONE, CLIENT, Reason.NO_PATIENT_NAMED),
    ("patient/*.rs system/*.rs", "p1", "p3", BACKEND_ALONE, CLIENT, Reason.APP_LAUNCH_OFF),
    # Where there are no apps, a client's token is refused as a client's.
    ("system/*.rs", None, None, BACKEND_ALONE, CLIENT, Reason.NO_PATIENT_NAMED),
    ("system/*.rs", None, "p3", BACKEND_ALONE, CLIENT, Reason.NOT_THE_CLIENTS_PATIENT),
    ("patient/*.rs", "p1", "p1", BACKEND_ALONE, CLIENT, Reason.APP_LAUNCH_OFF),
]


def described(*series: str, satisfies: tuple[str, ...] = (), **attributes: str) -> DescribedStudy:
    """A study with series of these modalities, whose UIDs are 1.CT, 1.SR."""
    return DescribedStudy(
        {name: (value,) for name, value in attributes.items()},
        tuple(DescribedSeries(f"1.{one}", {"Modality": (one,)}) for one in series),
        started_by=0,
        satisfies=frozenset(satisfies),
    )


WITH_RULES = patient_permit("p1", RETRIEVE, (make_path(rules=RULES),))
OF_CT = patient_permit("p1", RETRIEVE, (make_path("modality=CT"),))
STUDY, CT_SERIES, SR_SERIES, NEW_SERIES = (
    Part("1"),
    Part("1", "1.CT"),
    Part("1", "1.SR", "1.SR.1"),
    Part("1", "1.X"),
)
SHOWN_DENIALS: list[tuple[PatientPermit, Part, tuple[DescribedStudy, ...], Reason]] = [
    (WITH_RULES, STUDY, (described("CT", "SR"),), Reason.PARTLY_EXCLUDED),
    (WITH_RULES, SR_SERIES, (described("CT", "SR"),), Reason.NOT_SHOWN),
    (WITH_RULES, NEW_SERIES, (described("CT"),), Reason.NOT_SHOWN),
    (WITH_RULES, STUDY, (described("SR"),), Reason.NOT_SHOWN),
    (WITH_RULES, STUDY, (), Reason.NOT_SHOWN),
    (WITH_RULES, CT_SERIES, (described("CT"), described("SR")), Reason.NOT_SHOWN),
    (OF_CT, STUDY, (described("CT"),), Reason.NOT_SHOWN),
    (
        OF_CT,
        STUDY,
        (described("CT", satisfies=("modality=CT",)), described("CT")),
        Reason.NOT_SHOWN,
    ),
    (
        patient_permit("p1", RETRIEVE, (make_path(studies={"StudyID": ("x",)}),)),
        STUDY,
        (described("CT"),),
        Reason.NOT_SHOWN,
    ),
    (patient_permit("p1", RETRIEVE, ()), STUDY, (described("CT"),), Reason.NOT_SHOWN),
]
