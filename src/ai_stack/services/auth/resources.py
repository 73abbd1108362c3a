"""What tells a client of MCP where to get a token for this gateway (RFC 9728)."""

from collections.abc import Collection

from ai_stack.models.principals import Scope
from ai_stack.services.auth.issuers import Issuer

WELL_KNOWN = "/.well-known/oauth-protected-resource"
PROTECTED = "/mcp"
REALM = 'Bearer realm="AI Stack"'


def own_address(public_url: str | None, scheme: str, host: str) -> str:
    """By which address a client reaches this gateway: the configured one, else the Host that the
    gate has admitted."""
    return public_url or f"{scheme}://{host}"


def metadata(issuers: Collection[Issuer], address: str, path: str) -> dict[str, object]:
    """What the gateway says of itself as a protected resource: the issuers whose tokens it takes,
    and what a token may allow."""
    return {
        "resource": f"{address}{path}",
        "resource_name": "AI Stack",
        "authorization_servers": _trusted(issuers),
        "bearer_methods_supported": ["header"],
        "scopes_supported": sorted(_scopes(issuers)),
    }


def challenge(issuers: Collection[Issuer], address: str) -> str:
    """The WWW-Authenticate of a request without valid credentials."""
    if not _trusted(issuers):
        return REALM
    return f'{REALM}, resource_metadata="{address}{WELL_KNOWN}{PROTECTED}"'


def _trusted(issuers: Collection[Issuer]) -> list[str]:
    return [issuer.issuer for issuer in issuers if issuer.audience]


def _scopes(issuers: Collection[Issuer]) -> set[str]:
    """The scopes by the names that the issuers give them."""
    prefixes = {i.scopes_prefix for i in issuers if i.audience and i.scopes_claim}
    return {f"{prefix}{scope.value}" for prefix in prefixes for scope in Scope}
