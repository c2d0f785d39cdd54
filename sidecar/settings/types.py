"""Types of the values in a configuration.

Each type refuses what could not work later. Its error texts show no value. pydantic reads settings
by these types; a worker, which gets settings that were read, does without it.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import SplitResult, urlsplit

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic_core import CoreSchema

_KEY_CHARACTERS = 32
_NOT_IN_A_URL = frozenset('"<>\\^`{|}')
"""Characters that stand in no URL as they are (RFC 3986, appendix A)."""

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!#-;=?-\[\]_a-z~]+", re.ASCII)
"""A scheme and what may follow it (RFC 3986 3)."""


class Constraint:
    """Metadata of a type: ``change`` makes its schema for pydantic stricter.

    ``described`` goes to its JSON Schema.
    """

    def __init__(
        self, change: "Callable[[CoreSchema], Any]" = lambda schema: schema, **described: Any
    ) -> None:
        self._change, self._described = change, described

    def __get_pydantic_core_schema__(
        self, source: Any, handler: "GetCoreSchemaHandler"
    ) -> "CoreSchema":
        changed: CoreSchema = self._change(handler(source))
        return changed

    def __get_pydantic_json_schema__(
        self, schema: "CoreSchema", handler: "GetJsonSchemaHandler"
    ) -> dict[str, Any]:
        return handler(schema) | self._described


def _function(kind: str, function: Callable[[Any], Any], schema: "CoreSchema") -> Any:
    return {"type": kind, "function": {"type": "no-info", "function": function}, "schema": schema}


def after(change: Callable[[Any], Any], **described: Any) -> Constraint:
    """Return metadata with which a value of the type becomes ``change(value)``."""
    return Constraint(lambda schema: _function("function-after", change, schema), **described)


def before(change: Callable[[object], object]) -> Constraint:
    """Return metadata with which ``change(value)`` is read as the type."""
    return Constraint(lambda schema: _function("function-before", change, schema))


def length(**bounds: int) -> Constraint:
    """Return ``min_length`` and ``max_length`` of a text."""
    return Constraint(lambda schema: {**schema, **bounds})


class ByMethod:
    """Metadata of a union of sections of which ``method`` names one."""

    def __get_pydantic_core_schema__(
        self, source: Any, handler: "GetCoreSchemaHandler"
    ) -> "CoreSchema":
        from pydantic import Discriminator  # noqa: PLC0415 - not in a worker

        return Discriminator("method").__get_pydantic_core_schema__(source, handler)


def checked(check: Callable[[Any], object], **described: Any) -> Constraint:
    """Return metadata that keeps a value for which ``check`` raises no ``ValueError``."""

    def validate(value: Any) -> Any:
        check(value)
        return value

    return after(validate, **described)


def needs_each_other(choice: str, *, is_chosen: bool, key: str, value: object) -> None:
    """Raise ``ValueError`` unless ``key`` has a value exactly when ``choice`` is chosen."""
    if is_chosen != (value is not None):
        raise ValueError(f"{choice} needs {key}, and {key} needs {choice}")


Text = Annotated[str, length(min_length=1)]


def _check_some(values: tuple[object, ...]) -> None:
    if not values:
        raise ValueError("needs at least one")


AT_LEAST_ONE = checked(_check_some, minItems=1)


def _check_uri(value: str) -> None:
    if not _URI.fullmatch(value):
        raise ValueError("must be a URI, such as urn:oid:1.2.3 or http://hospital.example.org/mrn")


Uri = Annotated[Text, checked(_check_uri)]
"""An identifier system of FHIR: an absolute URI, which is compared as it is written."""


def _no_boolean(value: object) -> object:
    # Python counts True as 1: `port: yes` would listen on port 1.
    if isinstance(value, bool):
        raise ValueError("must be a number")  # noqa: TRY004 - pydantic makes it a problem
    return value


def number(unit: str, **bounds: Any) -> Constraint:
    """Return the bounds of a number, with its unit in the JSON Schema."""

    def change(schema: Any) -> Any:
        finite = {"allow_inf_nan": False} if schema["type"] == "float" else {}
        return _function("function-before", _no_boolean, {**schema, **bounds, **finite})

    return Constraint(change, unit=unit)


Seconds = Annotated[float, number("seconds", gt=0, le=86_400)]
SecondsFromZero = Annotated[float, number("seconds", ge=0, le=3_600)]
Port = Annotated[int, number("TCP port", ge=0, le=65_535)]


def _split(value: str) -> SplitResult:
    if not value.isascii() or any(
        character <= " " or character == "\x7f" or character in _NOT_IN_A_URL for character in value
    ):
        raise ValueError("must be percent-encoded ASCII")
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # Its own text quotes the value.
        usable = False
    if not usable:
        raise ValueError("must be an absolute http or https URL")
    return parts


def _http_url(value: str) -> str:
    parts = _split(value)
    if "@" in parts.netloc or "?" in value or "#" in value:
        raise ValueError("must have no user, query or fragment")
    return value.rstrip("/")


Url = Annotated[str, after(_http_url, format="uri")]
"""An absolute http or https URL, without a slash at its end."""


def _origin(value: str) -> str:
    """Return ``*``, or an origin as browsers send it (RFC 6454 6.2).

    Any other spelling would never match.
    """
    if value == "*":
        return value
    try:
        parts = _split(value)
    except ValueError:
        raise ValueError("must be * or scheme://host[:port]") from None
    if value != f"{parts.scheme}://{parts.netloc}" or "@" in value:
        raise ValueError("must be * or scheme://host[:port], nothing after it")
    if value != value.lower() or parts.port == {"http": 80, "https": 443}[parts.scheme]:
        raise ValueError("must be as browsers send it: lower case, without the scheme's own port")
    return value


Origin = Annotated[str, after(_origin)]


def _wildcards(value: str) -> str:
    is_text = (
        bool(value) and value.isprintable() and value == value.strip(" ") and "\\" not in value
    )
    fixed = value.translate(str.maketrans("", "", "*?."))
    if not is_text or (len(fixed) < 4 and not {"*", "?"}.isdisjoint(value)):
        raise ValueError("must be text, with four letters or digits beside * and ?")
    return value


Wildcards = Annotated[str, length(max_length=64), after(_wildcards)]
"""A pattern for a value of 64 characters (LO, PS3.5 6.2) in which ``*`` and ``?`` are wildcards."""


def read_text(file: Path) -> str:
    """Return the text of a UTF-8 file. Raises ``ValueError`` with a reason that can be shown."""
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError("is not UTF-8 text") from None


def _check_certificates(file: Path) -> None:
    import ssl  # noqa: PLC0415 - a supervisor does without OpenSSL

    read_text(file)
    try:
        ssl.create_default_context(cafile=file)
    except ssl.SSLError:
        raise ValueError("holds no certificate in PEM form") from None


CertificatesFile = Annotated[Path, checked(_check_certificates)]


def _check_secret(secret: str) -> None:
    if not secret:
        raise ValueError("is empty")
    if any(character < " " or character == "\x7f" for character in secret):
        raise ValueError("must be one line without control characters")


def secret_in(file: Path) -> str:
    """Return the secret in ``file``, without the line end that editors and ``echo`` write."""
    return read_text(file).rstrip("\r\n")


def _check_key(file: Path) -> None:
    if len(secret_in(file)) < _KEY_CHARACTERS:
        raise ValueError(f"must have {_KEY_CHARACTERS} characters at least")


class Secret:
    """A secret text, which nothing prints."""

    def __init__(self, value: str) -> None:
        _check_secret(value)
        self.value = value

    def __repr__(self) -> str:
        return "**********"

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: "GetCoreSchemaHandler"
    ) -> "CoreSchema":
        from pydantic_core import core_schema  # noqa: PLC0415 - not in a worker

        return core_schema.no_info_after_validator_function(
            cls, core_schema.str_schema(), serialization=core_schema.to_string_ser_schema()
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: "CoreSchema", handler: "GetJsonSchemaHandler"
    ) -> dict[str, Any]:
        return handler(schema) | {"format": "password", "writeOnly": True}


SecretFile = Annotated[Path, checked(lambda file: _check_secret(secret_in(file)))]
"""A file with one secret in its only line."""
KeyFile = Annotated[SecretFile, checked(_check_key)]
"""A file with a key that the site made: ``openssl rand -hex 32``."""


def key_in(file: Path | None, host_key: bytes, use: str) -> bytes:
    """Return the key in ``file``, or without a file one for this ``use``, made of ``host_key``."""
    import hashlib  # noqa: PLC0415 - a supervisor does without OpenSSL

    if file is not None:
        return secret_in(file).encode()
    return hashlib.blake2b(use.encode(), key=host_key, digest_size=32).digest()
