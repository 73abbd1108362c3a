"""Row 18: JSON Web Tokens that nobody issued, or not for this, against two issuers.

One issuer is the stack itself, the other a server of this machine with a key that this row holds:
so that tokens are tried too that are signed well and wrong in one thing alone. What a token's
header points at is a canary.
"""

import asyncio
import base64
import hmac
import json
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from joserfc import jws
from joserfc.jwk import ECKey, RSAKey

from ai_stack.services.auth.secrets import open_secrets
from reliability.callers import Caller, Court, Scribe, admin_url, carried, court
from reliability.verdicts import Measured, Row, Trial

AUDIENCE, SUBJECT, KID = "aidb", "somebody", "key-1"
AT_ONCE = 8
Object = dict[str, Any]


@dataclass(slots=True)
class Forge:
    """One issuer's key, and what its tokens say when they are good.

    Of the stack's own key only the public part is had: `good` is a token that it has signed.
    """

    name: str
    key: Any
    header: Object
    claims: Object
    other: "Forge | None" = None
    canary: str = ""
    good: str = ""
    attacker: RSAKey = field(default_factory=lambda: RSAKey.generate_key(2048))
    curved: ECKey = field(default_factory=lambda: ECKey.generate_key("P-256"))

    def signed(self, header: Object | None = None, claims: Object | None = None) -> str:
        """By the issuer's own key where that is had, with other members; None takes one out."""
        if self.good and not header and not claims:
            return self.good
        return self._by(
            self.curved if self.good else self.key,
            changed(self.header, header),
            changed(self.claims, claims),
        )

    def by_attacker(self, header: Object | None = None) -> str:
        """By a key of the attacker, of the kind that the algorithm wants."""
        told = changed(self.header, header)
        key = self.curved if str(told.get("alg", "")).startswith("ES") else self.attacker
        return self._by(key, told, self.claims)

    def _by(self, key: Any, header: Object, claims: Object) -> str:
        issuers = key is self.key or (self.good and key is self.curved)
        algorithm = self.header["alg"] if issuers else header.get("alg")
        part = f"{encoded(header)}.{encoded(claims)}"
        return f"{part}.{encoded(signature(key, str(algorithm), part))}"

    def hashed(self, secret: bytes, algorithm: str, kid: object = KID) -> str:
        """Under a secret that is none, as for a verifier that takes the algorithm's word."""
        part = f"{encoded({**self.header, 'alg': algorithm, 'kid': kid})}.{encoded(self.claims)}"
        digest = f"sha{algorithm[2:]}"
        return f"{part}.{encoded(hmac.digest(secret, part.encode(), digest))}"


def signature(key: Any, algorithm: str, part: str) -> bytes:
    model = jws.JWSRegistry(algorithms=[algorithm]).get_alg(algorithm)
    return bytes(model.sign(part.encode(), key))


def changed(told: Object, more: Object | None) -> Object:
    return {name: value for name, value in {**told, **(more or {})}.items() if value is not None}


def encoded(value: object) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def corpus(forge: Forge) -> Iterator[tuple[str, str]]:
    """Every forgery by what it tries."""
    for kind in (_algorithms, _hashes, _kids, _leads, _claims, _signatures, _shapes):
        for name, token in kind(forge):
            yield f"{forge.name}: {name}", token


def _algorithms(forge: Forge) -> Iterator[tuple[str, str]]:
    _, claims, own = forge.signed().split(".")
    for algorithm in ("none", "None", "NONE", "nOnE", "", " none", None, ["none"], 0, {}, "null"):
        told = encoded(changed(forge.header, {"alg": algorithm}))
        for sign in ("", own, "AA"):
            yield f"alg {algorithm!r} with {sign[:4]!r}", f"{told}.{claims}.{sign}"
    for algorithm in ("RS256", "RS384", "RS512", "PS256", "PS512", "ES256", "ES384", "EdDSA"):
        told = encoded({**forge.header, "alg": algorithm})
        if algorithm != forge.header["alg"]:
            yield f"alg {algorithm} over another", f"{told}.{claims}.{own}"
        if algorithm[:2] in ("RS", "PS") or algorithm == "ES256":
            yield f"alg {algorithm} of a stranger", forge.by_attacker({"alg": algorithm})
    yield "no header", f".{claims}.{own}"
    yield "an empty header", f"{encoded({})}.{claims}.{own}"


def _hashes(forge: Forge) -> Iterator[tuple[str, str]]:
    """The public key as a shared secret, in every form that it is published in."""
    pem, der = forge.key.as_pem(private=False), forge.key.as_der(private=False)
    public = forge.key.as_dict(private=False)
    bare = json.dumps(public, separators=(",", ":")).encode()
    keys = [pem, pem.strip(), pem.replace(b"\n", b"\r\n"), der, json.dumps(public).encode(), bare]
    keys += [str(value).encode() for value in public.values()]
    keys += [b"", b"\0", b"secret", b"null", KID.encode(), forge.claims["iss"].encode()]
    for number, key in enumerate(keys):
        for algorithm in ("HS256", "HS384", "HS512"):
            kid = forge.header["kid"]
            yield f"{algorithm} under form {number}", forge.hashed(key or b"", algorithm, kid)


def _kids(forge: Forge) -> Iterator[tuple[str, str]]:
    strange = ["../../../../dev/null", "/dev/null", "/etc/passwd", "' OR '1'='1", "'; SELECT 1; --"]
    strange += ["x' UNION SELECT 'secret", "\0", "a" * 300, "a" * 9000, "", " ", "..", "%00", "*"]
    strange += [
        f"{forge.canary}/key",
        "file:///dev/null",
        "key-1\0",
        "KEY-1",
        "key-1 ",
        "${jndi:x}",
    ]
    strange += [forge.other.header["kid"]] if forge.other else []
    for kid in (*strange, None, 0, 1, True, [], {}, ["key-1"]):
        yield f"kid {str(kid)[:24]!r} of a stranger", forge.by_attacker({"kid": kid})
        yield f"kid {str(kid)[:24]!r} under nothing", forge.hashed(b"", "HS256", kid)


def _leads(forge: Forge) -> Iterator[tuple[str, str]]:
    """A header that says where its key lies, or brings it along, or wants more than is known."""
    public = forge.attacker.as_dict(private=False)
    own = {**public, "kid": forge.header["kid"]}
    certificate = base64.b64encode(forge.attacker.as_der(private=False)).decode()
    heads: list[Object] = [{"jwk": own}, {"jwk": {**own, "kty": "oct", "k": "AA"}}]
    heads += [{"jku": f"{forge.canary}/jwks.json"}, {"x5u": f"{forge.canary}/chain.pem"}]
    heads += [{"jku": f"{forge.claims['iss']}@{forge.canary}"}, {"iss": forge.canary}]
    heads += [{"x5c": [certificate]}, {"x5t": "AA", "x5t#S256": "AA"}]
    for head in heads:
        yield f"{next(iter(head))} of a stranger", forge.by_attacker({**head, "alg": "RS256"})
        if "x5c" not in head and "x5t" not in head and "iss" not in head:
            yield f"{next(iter(head))} and well signed", forge.signed(head)
    wants: list[Object] = [
        {"crit": ["exp"]},
        {"crit": ["x"], "x": 1},
        {"crit": []},
        {"crit": "b64"},
    ]
    wants += [{"b64": False, "crit": ["b64"]}, {"b64": False}, {"zip": "DEF"}, {"enc": "A256GCM"}]
    for head in wants:
        yield f"a header that wants {head}", forge.signed(head)


def _claims(forge: Forge) -> Iterator[tuple[str, str]]:
    """Signed well, and wrong in one thing."""
    now, issuer = int(time.time()), str(forge.claims["iss"])
    wrong: list[tuple[str, list[object]]] = [
        (
            "iss",
            [None, "", "evil", issuer + "/", issuer.upper() + "X", [issuer], 0, {}, " " + issuer],
        ),
        (
            "aud",
            [None, "", "aid", "aidbx", "AIDB", [], ["other"], [["aidb"]], {"aidb": 1}, 0, True],
        ),
        ("exp", [None, now - 90, now - 86400, 0, -1, "never", "", True, [], {}, f"{now + 60}x"]),
        ("nbf", [now + 90, now + 86400, "x", []]),
        ("iat", [now + 90, now + 86400, "x"]),
        (
            "sub",
            [None, "", 0, [], {}, "nobody", "user:x", "key:", "key:aaaaaaaa", "a" * 300, "x\0"],
        ),
    ]
    for name, values in wrong:
        for value in values:
            yield f"{name} {str(value)[:20]!r}", forge.signed(None, {name: value})
    if forge.other:
        yield "the other's name", forge.signed(None, {"iss": forge.other.claims["iss"]})
        both = {"iss": forge.other.claims["iss"], "sub": forge.other.claims["sub"]}
        yield "the other's name and key", forge.signed({"kid": forge.other.header["kid"]}, both)
        yield "the other's subject", forge.signed(None, {"sub": forge.other.claims["sub"]})


def _signatures(forge: Forge) -> Iterator[tuple[str, str]]:
    good = forge.signed()
    head, _, sign = good.rpartition(".")
    raw = base64.urlsafe_b64decode(sign + "==")
    for size in (0, 1, 8, 16, len(raw) // 2, len(raw) - 1):
        yield f"the first {size} bytes of it", f"{head}.{encoded(raw[:size])}"
        padded = raw[:size] + bytes(len(raw) - size)
        yield f"the first {size} bytes, then nothing", f"{head}.{encoded(padded)}"
    for made in (
        bytes(len(raw)),
        b"\xff" * len(raw),
        raw + raw,
        raw + b"\0",
        b"\0" + raw,
        raw[::-1],
    ):
        yield f"{made[:3]!r} as its signature", f"{head}.{encoded(made)}"
    for at in (0, len(raw) // 2, len(raw) - 1):
        turned = raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]
        yield f"bit {at} turned", f"{head}.{encoded(turned)}"
    first, _ = head.split(".")
    for more in ({"sub": "root"}, {"scope": "operate"}, {"exp": 1 << 33}, {"project": "x"}):
        yield f"{more} put in", f"{first}.{encoded(changed(forge.claims, more))}.{sign}"
    yield "an older token's signature", f"{head}.{forge.signed(None, {'exp': 1}).split('.')[2]}"


def _shapes(forge: Forge) -> Iterator[tuple[str, str]]:
    good = forge.signed()
    head, claims, sign = good.split(".")
    yield from (("two parts", f"{head}.{claims}"), ("four parts", f"{good}.{sign}"))
    yield from (("five parts", f"{head}..{claims}.{sign}.AA"), ("dots", "..."), ("a dot", "."))
    yield from (("padded", f"{head}=.{claims}=.{sign}="), ("spaced", f"{head} .{claims}.{sign}"))
    yield from (("quoted", f'"{good}"'), ("doubled", f"{good},{good}"), ("no end", good[:-40]))
    yield from (("a part of it", good[5:]), ("other letters", good.replace("e", "\xe9", 1)))
    yield ("as JSON", json.dumps({"protected": head, "payload": claims, "signature": sign}))
    nested = encoded(("[" * 4000).encode())
    yield from (
        ("deep claims", f"{head}.{nested}.{sign}"),
        ("a deep header", f"{nested}.{claims}.{sign}"),
    )
    yield from (
        ("huge claims", f"{head}.{'A' * 7000}.{sign}"),
        ("huge", f"{'A' * 30000}.{claims}.{sign}"),
    )
    yield from (
        ("a list", f"{encoded([1])}.{claims}.{sign}"),
        ("null", f"{encoded(None)}.{claims}.{sign}"),
    )
    yield from (
        ("bytes", f"{encoded(bytes([0xFF, 0xFE]))}.{claims}.{sign}"),
        ("a text", f"IiI.{claims}.{sign}"),
    )
    yield ("a token in a token", forge.signed({"cty": "JWT", "alg": "none"}, {"sub": good[:200]}))


@asynccontextmanager
async def issuer(key: RSAKey) -> AsyncIterator[tuple[str, list[str]]]:
    """A server that publishes a key; its address, and what it was asked for."""
    asked: list[str] = []
    published = {"keys": [{**key.as_dict(private=False), "kid": KID, "alg": "RS256", "use": "sig"}]}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode()
        asked.append(path)
        described = {"issuer": address, "jwks_uri": f"{address}/jwks.json"}
        body = json.dumps(published if path == "/jwks.json" else described).encode()
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"
        writer.write(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    async with server:
        yield address, asked


async def measure(trial: Trial) -> Measured:
    async with AsyncExitStack() as exits:
        key = RSAKey.generate_key(2048)
        address, _ = await exits.enter_async_context(issuer(key))
        canary, visits = await exits.enter_async_context(issuer(RSAKey.generate_key(2048)))
        file = Path(exits.enter_context(tempfile.TemporaryDirectory())) / "issuers.json"
        file.write_text(json.dumps([{"name": "other", "issuer": address, "audience": AUDIENCE}]))
        made = await exits.enter_async_context(court(trial, AI_STACK_ISSUERS=str(file)))
        user = await asyncio.to_thread(_known, made, address)
        theirs = Forge("theirs", key, {"alg": "RS256", "kid": KID}, _said(address, SUBJECT))
        ours = await _ours(made, user)
        ours.other, theirs.other, ours.canary, theirs.canary = theirs, ours, canary, canary
        return await _judged(trial, made, [ours, theirs], visits)


async def _judged(trial: Trial, made: Court, forges: list[Forge], visits: list[str]) -> Measured:
    faults = [
        f"{forge.name}: a good token is refused" for forge in forges if not await _in(made, forge)
    ]
    forged = [one for forge in forges for one in corpus(forge)]
    for start in range(0, len(forged), AT_ONCE):
        some = forged[start : start + AT_ONCE]
        statuses = await asyncio.gather(
            *(_status(made, token, n) for n, (_, token) in enumerate(some))
        )
        for (name, _), status in zip(some, statuses, strict=True):
            trial.log.write("forged", name=name, status=status)
            if status not in (400, 401, 403):
                faults.append(f"{name}: {status}")
    figures = {"forged": len(forged), "not refused": len(faults), "visits": len(visits)}
    if visits:
        faults.append(f"the canary was asked for {visits[:3]}")
    return Measured(figures, tuple(faults[:12]))


async def _in(made: Court, forge: Forge) -> bool:
    return await _status(made, forge.signed(), 0) == 200


async def _status(made: Court, token: str, number: int) -> int:
    carrier = ("bearer", "x-api-key", "cookie")[number % 3]
    if not token.isascii() or " " in token:
        carrier = "bearer"
    return (await made.ask("GET", "/auth/me", carried(token, carrier))).status


def _said(issuer: str, subject: str) -> Object:
    now = int(time.time())
    return {"iss": issuer, "aud": AUDIENCE, "sub": subject, "iat": now, "exp": now + 3600}


async def _ours(made: Court, owner: Caller) -> Forge:
    """A token that the stack has made, and the public key that it publishes."""
    given = await made.json(owner, "POST", "/auth/token", {})
    good = str(given.json()["access_token"])
    published = (await made.ask("GET", "/.well-known/jwks.json")).json()["keys"]
    header, claims = (decoded(part) for part in good.split(".")[:2])
    key = next(one for one in published if one["kid"] == header["kid"])
    return Forge("ours", ECKey.import_key(key), header, claims, good=good)


def decoded(part: str) -> Object:
    return dict(json.loads(base64.urlsafe_b64decode(part + "==")))


def _known(made: Court, address: str) -> Caller:
    """A user whom the other issuer knows, one who is suspended, and a key."""
    pepper = open_secrets(made.ground.settings.secrets).pepper
    with psycopg.connect(admin_url(made.ground), autocommit=True) as connection:
        write, mark = Scribe(connection, pepper), made.project
        for subject, state in ((SUBJECT, "active"), ("suspended", "suspended")):
            user = write.user(f"{subject} of {mark}", made.project_id, "owner", state)
            connection.execute(
                "INSERT INTO control.identities VALUES (%s, %s, %s)", (address, subject, user)
            )
        return Caller("a key", write.key((made.project_id,)))


ROWS = (
    Row(
        18,
        "forged JWTs: none, confusion, kid, jku, claims, signatures, shapes",
        "0 accepted, 0 requests to the canary",
        measure,
        ("believing", "timeless"),
        calm=True,
    ),
)
