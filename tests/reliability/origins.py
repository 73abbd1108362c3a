"""Row 20: hosts, origins and targets that are not this gateway's, on every route.

Each is sent by somebody who may do everything, so that only the place they claim to be at, or to
ask for, can be what turns them away. Paths that are written oddly are sent by nobody.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from uuid import uuid4

import routes
from ai_stack.rest.requests import Anybody
from reliability.authorisation import JSON, MCP, filled, rpc
from reliability.callers import Answer, Caller, Court, Headers, carried, court
from reliability.verdicts import Measured, Row, Trial

AT_ONCE, PART = 8, 3  # of three questions one is asked, where not all are
Work = list[Callable[[], Awaitable[str]]]
HERE = "http://127.0.0.1"
REFUSED = (400, 401, 403, 421)
REBINDING = """
evil.example evil.example:80 127.0.0.1.evil.example localhost.evil.example evil.localhost
127.0.0.1.nip.io 7f000001.rbndr.us 0.0.0.0 127.1 127.0.0.2 2130706433 0x7f000001 0177.0.0.1
127.0.0.1. localhost. localhost.localdomain [::] [::ffff:127.0.0.1] [::1%lo] ::1 10.0.0.1
169.254.169.254 metadata.google.internal 127.0.0.1@evil.example user@127.0.0.1 user:pw@localhost
127.0.0.1:80:80 127.0.0.1:x 127.0.0.1:-1 127.0.0.1:+80 127.0.0.1/ 127.0.0.1/evil localhost#x
localhost?x localhost\\ *.localhost 127.0.0.1,evil.example evil.example,127.0.0.1 http://127.0.0.1
"""
ORIGINS = """
null http://evil.example https://evil.example http://127.0.0.1.evil.example http://evil.localhost
http://127.0.0.1:3000 http://localhost:8080 http://localhost:5173 http://[::1]:3000
https://127.0.0.1:8091 http://localhost http://127.0.0.1:80@evil.example http://user@127.0.0.1
http://127.0.0.1. http://127.0.0.2 http://0.0.0.0 file:// file:///etc/passwd chrome-extension://abc
moz-extension://abc ftp://127.0.0.1 ws://127.0.0.1 127.0.0.1 //127.0.0.1 http:127.0.0.1
http:///127.0.0.1 http://127.0.0.1/ http://127.0.0.1/path http://127.0.0.1\\@evil.example *
undefined javascript:alert(1) data:text/html,x about:blank http://evil.example#http://127.0.0.1
http://127.0.0.1:080 http://127.0.0.1:443
"""


def strange() -> list[tuple[str, str | None, Headers]]:
    """What a request says of itself: a name for it, its Host, and more headers."""
    hosts = [(f"host {h}", h, ()) for h in REBINDING.split()]
    hosts += [("no host", None, ()), ("an empty host", "", ()), ("host with a space", "a b", ())]
    hosts += [("host of 9,000 letters", "a" * 9000, ()), ("host é", "é", ())]
    twice = [("Host", "127.0.0.1"), ("Host", "evil.example")]
    doubled = [
        (f"{a[1]} then {b[1]}", None, (a, b)) for a, b in (twice, twice[::-1], twice[:1] * 2)
    ]
    origins = [(f"origin {o}", "127.0.0.1", (("Origin", o),)) for o in ORIGINS.split()]
    origins += [("an empty origin", "127.0.0.1", (("Origin", ""),))]
    both = (("Origin", HERE), ("Origin", "http://evil.example"))
    origins += [("two origins", "127.0.0.1", both), ("two origins", "127.0.0.1", both[::-1])]
    return [*hosts, *doubled, *origins]


def abroad() -> list[tuple[str, Headers]]:
    """What a browser says of a page elsewhere, where it names no origin."""
    sites = ("cross-site", "same-site")
    modes = ("no-cors", "cors", "same-origin", "websocket")
    return [
        (f"{site} {mode}", (("Sec-Fetch-Site", site), ("Sec-Fetch-Mode", mode)))
        for site in sites
        for mode in modes
    ]


def guarded() -> list[routes.Route]:
    found = dict.fromkeys(routes.routes(routes.app()))
    return [route for route in found if not isinstance(route.policy, Anybody)]


def every() -> list[tuple[str, str, Headers, bytes]]:
    """One harmless request to each route, those that all may ask too, and to MCP."""
    found = dict.fromkeys(routes.routes(routes.app()))
    rest = [(r.method, filled(r.path, str(uuid4())), (JSON,), b'{"') for r in found]
    return [*rest, ("POST", "/mcp", MCP, rpc("tools/list", {}))]


async def measure(trial: Trial) -> Measured:
    dice = random.Random(trial.seed)
    async with court(trial) as made:
        admin = made.callers["an admin's key"]
        kinds: dict[str, Work] = {
            "hosts and origins": _strange(made, admin),
            "pages elsewhere": _abroad(made, admin),
            "preflights": _preflights(made, admin),
            "targets": _targets(made, admin),
            "paths": _paths(made, dice),
            "methods": _methods(made, made.callers["a key for read"]),
        }
        figures, faults = dict[str, object](), list[str]()
        for kind, work in kinds.items():
            some = work if trial.full else dice.sample(work, len(work) // PART)
            answers = [fault async for fault in _all(some)]
            wrong = [fault for fault in answers if fault]
            trial.log.write(kind, asked=len(answers), faults=wrong)
            figures[kind] = len(answers)
            faults += wrong[:6]
    return Measured({**figures, "accepted": len(faults)}, tuple(faults))


async def _all(work: Work) -> AsyncIterator[str]:
    """The judgements of all, some at a time."""
    for start in range(0, len(work), AT_ONCE):
        for fault in await asyncio.gather(*(one() for one in work[start : start + AT_ONCE])):
            yield fault


def _strange(made: Court, admin: Caller) -> Work:
    async def judged(asked, said) -> str:
        (method, target, headers, body), (name, host, more) = asked, said
        sent = (*admin.headers(), *more, *headers)
        answer = await made.ask(method, target, sent, body, host=host)
        return "" if _is_refused(answer) else f"{method} {target} from {name}: {answer.status}"

    return [lambda a=a, s=s: judged(a, s) for a in every() for s in strange()]


def _abroad(made: Court, admin: Caller) -> Work:
    """A page elsewhere has a browser send the cookie, and does not say where it is."""

    async def judged(route: routes.Route, name: str, more: Headers) -> str:
        cookie = tuple(h for h in carried(admin.token or "", "cookie") if h[0] == "Cookie")
        target = filled(route.path, str(uuid4()))
        answer = await made.ask(route.method, target, (*cookie, *more, JSON), b'{"')
        refused = answer.status in (400, 401, 403, 421)
        return "" if refused else f"{route.name} from {name}: {answer.status}"

    return [lambda r=r, n=n, m=m: judged(r, n, m) for r in guarded() for n, m in abroad()]


def _preflights(made: Court, admin: Caller) -> Work:
    """No answer to anything lets another page read it."""
    asks = (
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "authorization,content-type"),
        ("Access-Control-Request-Private-Network", "true"),
    )

    async def judged(target: str, method: str, origin: str) -> str:
        headers = (("Origin", origin), *asks, *admin.headers())
        answer = await made.ask(method, target, headers, b"")
        allowed = b"access-control-allow" in answer.head.lower()
        passed = method == "OPTIONS" and answer.ok
        told = f"{method} {target} from {origin}: {answer.status}"
        return told if allowed or passed or answer.status == 0 else ""

    targets = dict.fromkeys(target for _, target, _, _ in every())
    origins = (HERE, "http://evil.example", "null", "http://localhost:3000")
    return [
        lambda t=t, m=m, o=o: judged(t, m, o)
        for t in targets
        for m in ("OPTIONS", "GET")
        for o in origins
        if not (m == "GET" and t.endswith("/export"))
    ]


def _targets(made: Court, admin: Caller) -> Work:
    """Targets that name another host, or none; other protocols than HTTP/1.1."""

    async def judged(request: str) -> str:
        headers = "".join(f"{n}: {v}\r\n" for n, v in admin.headers())
        sent = f"{request}\r\n{headers}Connection: close\r\n\r\n"
        answer = await made.send(sent.encode("latin-1"))
        return f"{request!r}: {answer.status}" if answer.ok or answer.status == 101 else ""

    return [lambda r=r: judged(r) for r in _requests()]


def _requests() -> Iterator[str]:
    for _, target, _, _ in every():
        for place in ("http://evil.example", "http://127.0.0.1", "https://localhost", "file://"):
            yield f"GET {place}{target} HTTP/1.1\r\nHost: 127.0.0.1"
        yield f"CONNECT {target} HTTP/1.1\r\nHost: 127.0.0.1"
        yield f"CONNECT evil.example:443 HTTP/1.1\r\nHost: 127.0.0.1\r\nX: {target}"
        yield f"OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\nX: {target}"
        yield f"GET {target} HTTP/1.0"
        yield f"GET {target}"
        yield f"TRACE {target} HTTP/1.1\r\nHost: 127.0.0.1"
        yield f"get {target} HTTP/1.1\r\nHost: 127.0.0.1"
    yield "PRI * HTTP/2.0\r\n\r\nSM\r\n"


def _paths(made: Court, dice: random.Random) -> Work:
    """Nobody is let in by another spelling of a path, and nobody by asking for HTTP/2."""

    async def judged(method: str, target: str, more: Headers = ()) -> str:
        answer = await made.ask(method, target, (JSON, *more), b"{}")
        return f"{method} {target}: {answer.status}" if answer.ok or answer.status >= 500 else ""

    upgrade = (("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"))
    settings = (("HTTP2-Settings", "AAMAAABkAAQAAP__"),)
    work = []
    for route in guarded():
        target = filled(route.path, str(uuid4()))
        spelt = [*spellings(target, dice)]
        work += [lambda m=route.method, t=t: judged(m, t) for t in spelt]
        work.append(lambda m=route.method, t=target: judged(m, t, (*upgrade, *settings)))
    return work + [lambda t=t: judged("POST", t) for t in spellings("/mcp", dice)]


def spellings(path: str, dice: random.Random) -> Iterator[str]:
    """Other ways to write a path, which a router, a proxy or a file system may take for it."""
    first, _, rest = path.removeprefix("/").partition("/")
    tail = f"/{rest}" if rest else ""
    at = dice.randrange(1, len(path))
    yield from (f"/{path}", f"//{path}", f"/.{path}", f"/x/..{path}", f"/health/..{path}")
    yield from (f"/health/live/..;{path}", f"/docs/..{path}", f"/docs/..%2f{path[1:]}")
    yield from (f"{path}/", f"{path}//", f"{path}/.", f"{path}%2f", f"{path};a=b", f"{path};")
    yield from (f"{path}%20", f"{path}%09", f"{path}%00", f"{path}.json", f"{path}%23", f"{path}?")
    yield from (f"/{first.upper()}{tail}", f"/%{ord(first[0]):02x}{first[1:]}{tail}")
    yield from (f"/%25{ord(first[0]):02x}{first[1:]}{tail}", f"/{first}%2f{rest}")
    yield from (f"/{first};x=/health{tail}", f"/{first}/./{rest}", f"/{first}//{rest}")
    yield f"{path[:at]}%{ord(path[at]):02X}{path[at + 1 :]}"
    yield f"{path}?x=/health/live"


def _methods(made: Court, reader: Caller) -> Work:
    """Who may only read does not write by naming another method in a header or the query."""

    async def judged(route: routes.Route, more: Headers, query: str) -> str:
        target = filled(route.path, "x") + query
        answer = await made.ask("GET", target, (*reader.headers(), *more))
        done = answer.status in (201, 202, 204)
        return f"GET {target} as {route.name} by {more}: {answer.status}" if done else ""

    names = ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override")
    writing = [r for r in guarded() if r.method != "GET"]
    return [
        *(lambda r=r, n=n: judged(r, ((n, r.method),), "") for r in writing for n in names),
        *(lambda r=r: judged(r, (), f"?_method={r.method}") for r in writing),
    ]


def _is_refused(answer: Answer) -> bool:
    return answer.status in REFUSED


ROWS = (
    Row(
        20,
        "hosts, origins, targets and spellings of paths, on every route",
        "0 accepted",
        measure,
        ("any-name", "any-port", "squeezed-paths"),
        calm=True,
    ),
)
