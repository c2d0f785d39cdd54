"""How we authenticate at a server that is not the EHR: ``auth`` of the PACS and of the audit repository."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from sidecar.settings.types import Secret, SecretFile, Section, exactly_one, secret_of


class NoAuth(Section):
    """It is open to us."""

    method: Literal["none"] = Field(description="Open to us (network rules)")


class BasicAuth(Section):
    """HTTP Basic."""

    method: Literal["basic"] = Field(description="HTTP Basic (RFC 7617)")
    username: str = Field(min_length=1, description="Without a colon")
    password: Secret | None = Field(None, description="The password")
    password_file: SecretFile | None = Field(None, description="File with the password")

    @field_validator("username")
    @classmethod
    def _no_colon(cls, value: str) -> str:
        if ":" in value:
            raise ValueError("must have no colon (RFC 7617)")
        return value

    @model_validator(mode="after")
    def _one_password(self) -> "BasicAuth":
        exactly_one(self.password, self.password_file, "password")
        return self

    def secret(self) -> str:
        """The password."""
        return secret_of(self.password, self.password_file)
