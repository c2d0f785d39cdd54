"""The kinds of values that a configuration has.

Each refuses what could not work later, in words that show no value.
"""

import secrets
import ssl
from pathlib import Path
from typing import Annotated
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
"""RFC 3986, appendix A: these stand in no URL as they are."""


class Section(BaseModel):
    """A part of the configuration: unknown keys are errors, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def _no_boolean(value: object) -> object:
    # Python counts True as 1: `port: yes` would listen on port 1.
    if isinstance(value, bool):
        raise ValueError("must be a number")  # noqa: TRY004 - pydantic turns a ValueError into a problem
    return value


NO_BOOLEAN = BeforeValidator(_no_boolean)
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False), NO_BOOLEAN]
SecondsFromZero = Annotated[float, Field(ge=0, le=3_600, allow_inf_nan=False), NO_BOOLEAN]
"""0 switches the thing off."""
Port = Annotated[int, Field(ge=0, le=65_535), NO_BOOLEAN]


def _split(value: str) -> SplitResult:
    if not value.isascii() or any(
        one <= " " or one == "\x7f" or one in _NOT_IN_A_URL for one in value
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
    """``*`` or what a browser writes into ``Origin`` (RFC 6454 6.2): any other spelling would never match."""
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


def _certificates(file: Path) -> Path:
    read_text(file)
    try:
        ssl.create_default_context(cafile=str(file))
    except ssl.SSLError:
        raise ValueError("holds no certificate in PEM form") from None
    return file


CertificatesFile = Annotated[Path, AfterValidator(_certificates)]


def _one_line(secret: str) -> None:
    if not secret:
        raise ValueError("is empty")
    if any(character < " " or character == "\x7f" for character in secret):
        raise ValueError("must be one line without control characters")


def _checked_secret(secret: SecretStr) -> SecretStr:
    _one_line(secret.get_secret_value())
    return secret


def _secret_of(file: Path) -> str:
    # Editors and `echo` end a file with a newline; anything else in it is the secret's.
    return read_text(file).rstrip("\r\n")


def _checked_secret_file(file: Path) -> Path:
    _one_line(_secret_of(file))
    return file


Secret = Annotated[SecretStr, AfterValidator(_checked_secret)]
SecretFile = Annotated[Path, AfterValidator(_checked_secret_file)]
"""A file with one secret in its only line."""


def _checked_key_file(file: Path) -> Path:
    if len(_secret_of(file)) < _KEY_CHARACTERS:
        raise ValueError(f"must have {_KEY_CHARACTERS} characters at least")
    return file


KeyFile = Annotated[SecretFile, AfterValidator(_checked_key_file)]
"""A file with a key that we made ourselves: ``openssl rand -hex 32``."""


def key_of(file: Path | None) -> bytes:
    """Return the key in ``file``, or without one a new key of this process alone."""
    return _secret_of(file).encode() if file else secrets.token_bytes(32)


def secret_of(direct: SecretStr | None, file: Path | None) -> str:
    """Return the secret: the direct one, or the content of ``file`` without the newline at its end."""
    if direct is not None:
        return direct.get_secret_value()
    assert file is not None  # noqa: S101 - exactly_one has seen to it
    return _secret_of(file)


def exactly_one(direct: object, file: object, name: str) -> None:
    """Raise ``ValueError`` unless a secret or its ``_file`` twin is set, and not both."""
    if (direct is None) == (file is None):
        raise ValueError(f"needs exactly one of {name} and {name}_file")
