"""The issuers of OpenID Connect that the stack trusts, as one JSON file names them."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    TypeAdapter,
    ValidationError,
)

from ai_stack.errors import SettingsError
from ai_stack.models.principals import Role

# What signs with a key that verifies nothing: with HS256 whoever verifies could also sign.
Rsa: TypeAlias = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]
Curved: TypeAlias = Literal["ES256", "ES384", "ES512", "Ed25519", "EdDSA"]
NAME = r"^[a-z0-9][a-z0-9-]{0,39}$"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
LARGEST = 1 << 20


def is_safe(url: str) -> bool:
    """Whether nobody on the way can change what an address answers; on this machine http does."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    near = parts.scheme == "http" and parts.hostname in LOOPBACK
    return bool(parts.hostname) and not parts.username and (near or parts.scheme == "https")


def _address(url: str) -> str:
    if not is_safe(url) or "?" in url or "#" in url:
        raise ValueError("must be an https address without a query")
    return url


def _several(value: object) -> object:
    return [value] if isinstance(value, str) else value


Address = Annotated[str, AfterValidator(_address)]
Texts = Annotated[tuple[str, ...], BeforeValidator(_several)]


class Grant(BaseModel):
    """A role in a project, by the project's name."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    project: str = Field(min_length=1, max_length=255)
    role: Role


class Issuer(BaseModel):
    """One issuer; `issuer` is compared with a token's `iss` byte by byte."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=NAME, description="what it is called in addresses and commands")
    title: str = Field("", max_length=100, description="what people call it")
    issuer: Address
    audience: Texts = Field((), description="audiences of the tokens that are taken as they are")
    client_id: str = Field("", description="as which people sign on; empty for tokens alone")
    client_secret: SecretStr | None = None
    algorithms: tuple[Rsa | Curved, ...] = Field(("RS256",), min_length=1)
    jwks_uri: Address | None = Field(None, description="by default what the issuer itself names")
    request_scopes: str = Field("openid profile email", description="what a sign-on asks for")
    scopes_claim: str | None = Field(
        None, description="claim that bounds what a token may do; without it the user's roles do"
    )
    scopes_prefix: str = Field("", description="what stands before each of the stack's scopes")
    roles_claim: str = Field("groups", description="claim of the groups that `roles` names")
    roles: Mapping[str, tuple[Grant, ...]] = Field(default_factory=dict)
    admins: frozenset[str] = Field(frozenset(), description="subjects that operate the stack")
    newcomers: bool = Field(False, description="whether whoever signs on first becomes a user")
    domains: frozenset[str] = Field(
        frozenset(), description="mail domains whose addresses, verified, make users all the same"
    )
    grants: tuple[Grant, ...] = Field((), description="what who becomes a user is given")

    @property
    def discovery(self) -> str:
        """Where the issuer describes itself."""
        return f"{self.issuer.rstrip('/')}/.well-known/openid-configuration"


def open_issuers(file: Path | None) -> tuple[Issuer, ...]:
    """The issuers of the file that AI_STACK_ISSUERS names; SettingsError says what is wrong."""
    if file is None:
        return ()
    try:
        with file.open("rb") as content:
            found = TypeAdapter(list[Issuer]).validate_python(json.loads(content.read(LARGEST)))
    except OSError as error:
        raise SettingsError(f"AI_STACK_ISSUERS: {file}: {error.strerror}.") from None
    except ValidationError as error:
        raise SettingsError(f"AI_STACK_ISSUERS: {file}: {_told(error)}.") from None
    except (ValueError, RecursionError):
        raise SettingsError(f"AI_STACK_ISSUERS: {file} is not JSON.") from None
    _check_unique(file, found)
    return tuple(found)


def _told(error: ValidationError) -> str:
    first = error.errors(include_input=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'the whole'}: {first['msg']}"


def _check_unique(file: Path, found: list[Issuer]) -> None:
    for field in ("name", "issuer"):
        twice = [name for name, n in Counter(getattr(i, field) for i in found).items() if n > 1]
        if twice:
            raise SettingsError(f"AI_STACK_ISSUERS: {file}: two have the {field} {twice[0]!r}.")
