"""Types of the values in a configuration.

Each type refuses what could not work later. Its error texts show no value.
"""

import hashlib
import re
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import SplitResult, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    WithJsonSchema,
)

_KEY_CHARACTERS = 32
_NOT_IN_A_URL = frozenset('"<>\\^`{|}')
"""Characters that stand in no URL as they are (RFC 3986, appendix A)."""

_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[!#-;=?-\[\]_a-z~]+", re.ASCII)
"""A scheme and what may follow it (RFC 3986 3)."""


def _unwrap_descriptions(schema: dict[str, Any]) -> None:
    for field in schema["properties"].values():
        if "description" in field:
            field["description"] = " ".join(field["description"].split())


class Section(BaseModel):
    """A part of the configuration. Unknown keys are errors; values do not change.

    The docstrings of fields are their descriptions in the JSON Schema.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
        json_schema_extra=_unwrap_descriptions,
    )


def checked(check: Callable[[Any], object]) -> AfterValidator:
    """Return a validator that keeps a value for which ``check`` raises no ``ValueError``."""

    def validate(value: Any) -> Any:
        check(value)
        return value

    return AfterValidator(validate)


def needs_each_other(choice: str, *, is_chosen: bool, key: str, value: object) -> None:
    """Raise ``ValueError`` unless ``key`` has a value exactly when ``choice`` is chosen."""
    if is_chosen != (value is not None):
        raise ValueError(f"{choice} needs {key}, and {key} needs {choice}")


Text = Annotated[str, Field(min_length=1)]


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


NO_BOOLEAN = BeforeValidator(_no_boolean)


def number(unit: str, **bounds: Any) -> Any:
    """Return the bounds of a number, as ``Field`` has them, with its unit in the JSON Schema."""
    return Field(**bounds, json_schema_extra={"unit": unit})


Seconds = Annotated[float, number("seconds", gt=0, le=86_400, allow_inf_nan=False), NO_BOOLEAN]
SecondsFromZero = Annotated[
    float, number("seconds", ge=0, le=3_600, allow_inf_nan=False), NO_BOOLEAN
]
Port = Annotated[int, number("TCP port", ge=0, le=65_535), NO_BOOLEAN]


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


Url = Annotated[str, AfterValidator(_http_url), WithJsonSchema({"type": "string", "format": "uri"})]
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


Origin = Annotated[str, AfterValidator(_origin)]


def _wildcards(value: str) -> str:
    is_text = (
        bool(value) and value.isprintable() and value == value.strip(" ") and "\\" not in value
    )
    fixed = value.translate(str.maketrans("", "", "*?."))
    if not is_text or (len(fixed) < 4 and not {"*", "?"}.isdisjoint(value)):
        raise ValueError("must be text, with four letters or digits beside * and ?")
    return value


Wildcards = Annotated[str, Field(max_length=64), AfterValidator(_wildcards)]
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


Secret = Annotated[SecretStr, checked(lambda secret: _check_secret(secret.get_secret_value()))]
SecretFile = Annotated[Path, checked(lambda file: _check_secret(secret_in(file)))]
"""A file with one secret in its only line."""
KeyFile = Annotated[SecretFile, checked(_check_key)]
"""A file with a key that the site made: ``openssl rand -hex 32``."""


def key_in(file: Path | None, host_key: bytes, use: str) -> bytes:
    """Return the key in ``file``, or without a file one for this ``use``, made of ``host_key``."""
    if file is not None:
        return secret_in(file).encode()
    return hashlib.blake2b(use.encode(), key=host_key, digest_size=32).digest()
