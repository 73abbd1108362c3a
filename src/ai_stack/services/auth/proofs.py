"""What a JSON Web Token has to be before anything that it says is believed.

The algorithm and the key come from what is known of the issuer, never from the token: its header
only chooses among them. What would lead elsewhere (`jku`, `x5u`, `jwk`) or asks for more than is
understood (`crit`) is refused.
"""

import base64
import json
import re
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from joserfc import jwt
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import ECKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from ai_stack.errors import Unauthenticated

COMPACT = re.compile(r"([A-Za-z0-9_-]{1,1024})\.([A-Za-z0-9_-]{1,6144})\.([A-Za-z0-9_-]{1,1024})")
LEADING_ASTRAY = frozenset({"jku", "x5u", "jwk", "crit", "b64", "zip", "enc"})
LONGEST_KID = 255
LEEWAY_S = 60
REFUSED = "This token is not valid, or not any more."
UNREADABLE = (JoseError, ValueError, TypeError, KeyError, OverflowError, RecursionError)

Claims: TypeAlias = dict[str, Any]
PublicKey: TypeAlias = RSAKey | ECKey | OKPKey
FAMILIES: Mapping[str, type[PublicKey]] = {"RS": RSAKey, "PS": RSAKey, "ES": ECKey, "Ed": OKPKey}


@dataclass(frozen=True, slots=True, repr=False)
class Unproven:
    """A token that was taken apart, of which nothing is believed yet."""

    token: str
    algorithm: str
    kid: str
    issuer: str

    @classmethod
    def read(cls, token: str, *, names_key: bool = True) -> "Unproven | None":
        """None for what is no token of this kind; Unauthenticated for one that is malformed.

        Without `names_key` the `kid` may be missing, and is empty then.
        """
        parts = COMPACT.fullmatch(token)
        if parts is None:
            return None
        header, claims = _object(parts[1]), _object(parts[2])
        algorithm, kid, issuer = header.get("alg"), header.get("kid"), claims.get("iss")
        is_named = _is_text(kid) or (not names_key and "kid" not in header)
        if not LEADING_ASTRAY.isdisjoint(header):
            raise Unauthenticated(REFUSED)
        if not (_is_text(algorithm) and is_named and _is_text(issuer)):
            raise Unauthenticated(REFUSED)
        return cls(token, str(algorithm), str(kid or ""), str(issuer))


def proven(
    unproven: Unproven,
    key: PublicKey,
    algorithms: Collection[str],
    *,
    audiences: Collection[str],
    now: float,
) -> Claims:
    """The claims of a token that this key signed, for one of these audiences, and that holds now.

    Raises Unauthenticated. Clocks may differ by LEEWAY_S. The issuer is for the caller to compare.
    """
    claims = _signed(unproven, key, algorithms)
    _check_times(claims, now)
    told = claims.get("aud")
    audience = [told] if isinstance(told, str) else told
    if not isinstance(audience, list) or not any(one in audience for one in audiences):
        raise Unauthenticated(REFUSED)
    if not _is_text(claims.get("sub")):
        raise Unauthenticated(REFUSED)
    return claims


def fits(key: object, algorithm: str) -> bool:
    """Whether a key is of the kind that an algorithm signs with, and for no other one."""
    family = FAMILIES.get(algorithm[:2])
    return family is not None and isinstance(key, family) and key.alg in (None, algorithm)


def _signed(unproven: Unproven, key: PublicKey, algorithms: Collection[str]) -> Claims:
    allowed = unproven.algorithm in algorithms and fits(key, unproven.algorithm)
    if not allowed:
        raise Unauthenticated(REFUSED)
    registry = JWSRegistry(algorithms=[unproven.algorithm], strict_check_header=False)
    with warnings.catch_warnings(action="ignore", category=SecurityWarning):  # EdDSA's old name
        try:
            found = jwt.decode(unproven.token, key, [unproven.algorithm], registry).claims
        except UNREADABLE:
            raise Unauthenticated(REFUSED) from None
    if found.get("iss") != unproven.issuer:
        raise Unauthenticated(REFUSED)
    return found


def _check_times(claims: Claims, now: float) -> None:
    registry = jwt.JWTClaimsRegistry(int(now), LEEWAY_S, exp={"essential": True})
    try:
        registry.validate({name: claims[name] for name in ("exp", "nbf", "iat") if name in claims})
    except UNREADABLE:
        raise Unauthenticated(REFUSED) from None


def _object(segment: str) -> dict[str, Any]:
    try:
        found = json.loads(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
    except UNREADABLE:
        raise Unauthenticated(REFUSED) from None
    if not isinstance(found, dict):
        raise Unauthenticated(REFUSED)
    return found


def _is_text(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= LONGEST_KID and value.isprintable()
