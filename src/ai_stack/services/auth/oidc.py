"""Signing on at an issuer of OpenID Connect: authorization code with PKCE, state and nonce.

What a sign-on began with travels sealed in a cookie of the browser that began it, so that
beginning costs no memory; that it came back is kept, so that it does so once.
"""

import base64
import hmac
import json
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any

from authlib.oidc.core.claims import CodeIDToken
from cryptography.fernet import Fernet, InvalidToken

from ai_stack.database import Database, audit, sign_ons
from ai_stack.errors import AIStackError, Forbidden, InvalidRequest, NotFound, Unauthenticated
from ai_stack.services.auth.credentials import hidden, same
from ai_stack.services.auth.endpoints import REFUSED, Endpoints, Question
from ai_stack.services.auth.issuers import Issuer
from ai_stack.services.auth.key_sets import KeySet
from ai_stack.services.auth.logins import Logins
from ai_stack.services.auth.newcomers import Newcomers
from ai_stack.services.auth.proofs import LEEWAY_S, UNREADABLE, Claims, Unproven, proven
from ai_stack.services.auth.secrets import Secrets

LASTS = timedelta(minutes=10)
HOME = "/login"
LONGEST_NEXT, LONGEST_CODE = 2000, 4096
STRANGE = "This sign-on was not begun in this browser, or too long ago: begin again."
OTHERS = "This answer is another issuer's than the one that was asked: begin again."


@dataclass(frozen=True, slots=True, repr=False)
class Begun:
    """Where the browser goes, and what it keeps meanwhile."""

    url: str
    cookie: str


@dataclass(frozen=True, slots=True, repr=False)
class SignedOn:
    """A login, and the path of ours where the browser goes."""

    token: str
    next: str


@dataclass(frozen=True, slots=True)
class SignOn:
    """Lets in who an issuer says it is, as the user that its subject is here."""

    database: Database
    secrets: Secrets
    logins: Logins
    newcomers: Newcomers
    endpoints: Mapping[str, Endpoints]
    keys: Mapping[str, KeySet] = field(default_factory=dict)

    @classmethod
    def of(
        cls, database: Database, secrets: Secrets, logins: Logins, issuers: Sequence[Issuer]
    ) -> "SignOn":
        """At those of the issuers that know this stack as a client."""
        ours = [issuer for issuer in issuers if issuer.client_id]
        return cls(
            database,
            secrets,
            logins,
            Newcomers(database),
            {issuer.name: Endpoints(issuer) for issuer in ours},
            {issuer.name: KeySet(issuer) for issuer in ours},
        )

    @property
    def issuers(self) -> list[Issuer]:
        """Where people may sign on."""
        return [endpoints.issuer for endpoints in self.endpoints.values()]

    async def begin(self, name: str, redirect_uri: str, next: str) -> Begun:
        """Where to send a browser, which comes back to `redirect_uri` and goes on to `next`.

        Raises NotFound for an issuer, InvalidRequest for a `next` that is no path of ours, and
        Unavailable while the issuer does not describe itself.
        """
        endpoints, next = self._at(name), checked_path(next)
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        question = Question(redirect_uri, state, nonce, verifier)
        url = await endpoints.authorization(question)
        kept = {"issuer": name, "next": next, "question": asdict(question)}
        return Begun(url, self._fernet.encrypt(json.dumps(kept).encode()).decode())

    async def finish(
        self, name: str, answer: Mapping[str, str], cookie: str | None, redirect_uri: str
    ) -> SignedOn:
        """A login for whom the issuer has sent back with this answer.

        Raises Forbidden for a sign-on that this browser has not begun here, that was finished
        before, or whose subject may not come in; Unauthenticated for what the issuer does not
        confirm.
        """
        endpoints = self._at(name)
        question, next = self._begun(name, answer, cookie, redirect_uri)
        await self._check_issuer(endpoints, answer)
        await self._spend(question)
        claims = await self._claims(endpoints, answer, question)
        try:
            user_id = await self.newcomers.user(endpoints.issuer, claims)
            token = await self.logins.begin(user_id, "browser", endpoints.issuer.issuer)
        except AIStackError as error:
            await self._note(endpoints.issuer, "sign_on.refuse", "", claims, reason=error.code)
            raise
        await self._note(endpoints.issuer, "sign_on", str(user_id), claims)
        return SignedOn(token, next)

    def _at(self, name: str) -> Endpoints:
        if name not in self.endpoints:
            raise NotFound("There is no issuer of this name to sign on at.")
        return self.endpoints[name]

    @property
    def _fernet(self) -> Fernet:
        key = hmac.digest(self.secrets.pepper, b"sign-on", "sha256")
        return Fernet(base64.urlsafe_b64encode(key))

    def _begun(
        self, name: str, answer: Mapping[str, str], cookie: str | None, redirect_uri: str
    ) -> tuple[Question, str]:
        """What this browser has begun, where the answer is to that."""
        try:
            seconds = int(LASTS.total_seconds())
            kept = json.loads(self._fernet.decrypt((cookie or "").encode(), ttl=seconds))
        except (InvalidToken, ValueError):
            raise Forbidden(STRANGE) from None
        question = Question(**kept["question"])
        if not same(question.state.encode(), answer.get("state", "").encode()):
            raise Forbidden(STRANGE)
        if kept["issuer"] != name or question.redirect_uri != redirect_uri:
            raise Forbidden(OTHERS)
        return question, checked_path(kept["next"])

    async def _check_issuer(self, endpoints: Endpoints, answer: Mapping[str, str]) -> None:
        """RFC 9207: an answer says whose it is, where the issuer promises that it does."""
        told = answer.get("iss")
        described = await endpoints.description()
        promised = described.get("authorization_response_iss_parameter_supported") is True
        if told != endpoints.issuer.issuer and (promised or told is not None):
            raise Forbidden(OTHERS)

    async def _spend(self, question: Question) -> None:
        hash = hidden(f"sign-on {question.state}", self.secrets.pepper)
        async with self.database.control() as tx:
            if not await sign_ons.spend(tx, hash, LASTS):
                raise Forbidden(STRANGE)

    async def _claims(
        self, endpoints: Endpoints, answer: Mapping[str, str], question: Question
    ) -> Claims:
        """Who has signed in, by the issuer's signature and, where that says too little, by its
        userinfo."""
        code = answer.get("code", "")
        if "error" in answer or not 0 < len(code) <= LONGEST_CODE:
            raise Unauthenticated("The sign-on was called off at the issuer.")
        told = await endpoints.tokens(code, question)
        access_token = str(told.get("access_token") or "")
        claims = await self._proven(endpoints.issuer, told.get("id_token"), question, access_token)
        if access_token and await self._says_too_little(endpoints, claims):
            more = await endpoints.userinfo(access_token)
            if more.get("sub") != claims["sub"]:
                raise Unauthenticated(REFUSED)
            claims = {**more, **claims}
        return claims

    async def _proven(
        self, issuer: Issuer, id_token: object, question: Question, access_token: str
    ) -> Claims:
        told = id_token if isinstance(id_token, str) else ""
        unproven, keys = Unproven.read(told, names_key=False), self.keys[issuer.name]
        if unproven is None or unproven.issuer != issuer.issuer:
            raise Unauthenticated(REFUSED)
        key = await (keys.find(unproven.kid) if unproven.kid else keys.only())
        if key is None:
            raise Unauthenticated(REFUSED)
        now = time.time()
        claims = proven(unproven, key, issuer.algorithms, audiences=[issuer.client_id], now=now)
        expected = {
            "nonce": question.nonce,
            "client_id": issuer.client_id,
            "access_token": access_token,
        }
        _check_id_token(claims, unproven.algorithm, expected, now)
        return claims

    async def _says_too_little(self, endpoints: Endpoints, claims: Claims) -> bool:
        """Whether the userinfo decides something about this subject."""
        issuer = endpoints.issuer
        wanted = {issuer.roles_claim} if issuer.roles else set[str]()
        if not await self.newcomers.is_known(issuer, claims["sub"]):
            wanted |= {"email", "email_verified"}
        return not wanted <= claims.keys() and await endpoints.offers("userinfo_endpoint")

    async def _note(
        self, issuer: Issuer, action: str, subject: str, claims: Claims, **detail: object
    ) -> None:
        """Of whom an issuer has vouched for alone: strangers could fill the log else."""
        told = {"issuer": issuer.name, "subject": claims["sub"], **detail}
        async with self.database.control() as tx:
            await audit.record(tx, f"issuer {issuer.name}", action, subject, detail=told)


def checked_path(next: str) -> str:
    """A path of this gateway, which no browser takes for another's; InvalidRequest."""
    safe = next.isascii() and next.isprintable() and len(next) <= LONGEST_NEXT
    if not (safe and next.startswith("/") and next[1:2] != "/" and "\\" not in next):
        raise InvalidRequest("`next` has to be a path of this gateway.")
    return next


def _check_id_token(
    claims: Claims, algorithm: str, expected: Mapping[str, Any], now: float
) -> None:
    """What OpenID Connect asks of a token beside its signature, audience and times."""
    read = CodeIDToken(claims, {"alg": algorithm}, params=dict(expected))
    try:
        read.validate(now=int(now), leeway=LEEWAY_S)
    except UNREADABLE:
        raise Unauthenticated(REFUSED) from None
