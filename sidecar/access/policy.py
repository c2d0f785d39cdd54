"""What the site has switched on and given to whom, and who asks: facts for the decision."""

from dataclasses import dataclass, field

from sidecar.access.rules import Conditions, Rule


@dataclass(frozen=True, slots=True)
class Policy:
    """What the site has switched on (``access`` in the settings)."""

    app_launch: bool = True
    user_level: bool = False
    backend_services: bool = False
    rules: tuple[Rule, ...] = ()
    external: bool = False


@dataclass(frozen=True, slots=True)
class Client:
    """What a backend client was given: ``patients`` (FHIR ids), and of their studies those where ``studies`` hold."""

    patients: frozenset[str] = frozenset()
    studies: Conditions = field(default_factory=dict)
    rules: bool = True


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as the validated token says."""

    client_id: str | None = None
    subject: str | None = None
    issuer: str | None = None
