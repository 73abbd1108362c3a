"""Faulty builds that let in whoever should not be: each is what a hurried change would leave."""
# ruff: noqa: PLC0415 (each plant imports what it breaks, and only that)

from collections.abc import Callable
from typing import Any

TRUST_PLANTS: dict[str, Callable[[], None]] = {}


def plant(function: Callable[[], None]) -> Callable[[], None]:
    TRUST_PLANTS[function.__name__.replace("_", "-")] = function
    return function


def replace(owner: object, name: str, piece: object) -> None:
    getattr(owner, name)
    setattr(owner, name, piece)


@plant
def scopeless() -> None:
    """Who is known may do everything."""
    from ai_stack.models.principals import Principal

    replace(Principal, "require", lambda self, scope: None)


@plant
def lasting_keys() -> None:
    """What was a credential once is one for ever."""
    from ai_stack.services.auth import identity

    replace(identity, "_checked", lambda credential: credential)


@plant
def body_first() -> None:
    """A body is read and judged before anybody asks who sent it."""
    from ai_stack.rest.requests import JsonRequest, JsonRoute

    def handler(self: Any) -> Any:
        handle = super(JsonRoute, self).get_route_handler()

        async def read_first(request: Any) -> Any:
            read = JsonRequest(request.scope, request.receive)
            if self.body_field is not None:
                await read.read()
            return await handle(read)

        return read_first

    replace(JsonRoute, "get_route_handler", handler)


@plant
def prefix_keys() -> None:
    """A key is compared by its beginning."""
    from ai_stack.database import credentials as rows
    from ai_stack.services.auth import credentials
    from ai_stack.services.auth.identity import Identity

    async def key(self: Any, token: str) -> Any:
        id = credentials.id_of_key(token)
        return None if id is None else await rows.find_key(self.database, id)

    replace(Identity, "_key", key)


@plant
def loose_cookies() -> None:
    """The first credential that is found is taken, and the others are left."""
    from ai_stack.services.auth import credentials, identity

    original = credentials.read

    def read(pairs: Any) -> Any:
        for pair in pairs:
            found = original((pair,))
            if found.token:
                return found
        return original(pairs)

    replace(identity.tokens, "read", read)


@plant
def believing() -> None:
    """What a token says is believed, whoever signed it."""
    import base64
    import json

    from ai_stack.services.auth import proofs

    def signed(unproven: Any, key: Any, algorithms: Any) -> Any:
        part = unproven.token.split(".")[1]
        return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))

    replace(proofs, "_signed", signed)


@plant
def timeless() -> None:
    """A token is for everybody, and holds for ever."""
    from ai_stack.services.auth import proofs, tokens

    def proven(unproven: Any, key: Any, algorithms: Any, **_: Any) -> Any:
        return proofs._signed(unproven, key, algorithms)

    replace(tokens, "proven", proven)
    replace(tokens, "_bounded", lambda found, scopes, claims, until: found)


@plant
def trusting_fetch() -> None:
    """A URL is looked at once, as it is written, and then followed wherever it leads."""
    from ai_stack.services import downloads

    replace(downloads.GuardedBackend, "_addresses", _resolved)


async def _resolved(self: Any, host: str, port: int) -> list[str]:
    import asyncio

    import httpcore

    try:
        found = await asyncio.get_running_loop().getaddrinfo(host.strip("[]"), port)
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError from error
    return [str(entry[4][0]) for entry in found]


@plant
def looking_twice() -> None:
    """A name is checked, and asked for again when it is connected to."""
    from ai_stack.services import downloads

    original = downloads.GuardedBackend._addresses

    async def addresses(self: Any, host: str, port: int) -> list[str]:
        await original(self, host, port)
        return await _resolved(self, host, port)

    replace(downloads.GuardedBackend, "_addresses", addresses)


@plant
def any_name() -> None:
    """Every Host is this gateway's."""
    from ai_stack.rest import gate

    class Every(frozenset):
        def __contains__(self, name: object) -> bool:
            return True

        def __or__(self, other: object) -> "Every":
            return self

    replace(gate, "LOOPBACK", Every())


@plant
def any_port() -> None:
    """An origin of this machine is welcome, whatever program serves it."""
    from ai_stack.rest import gate

    replace(gate, "_is_own", lambda origin, host: b"127.0.0.1" in origin or b"localhost" in origin)


@plant
def squeezed_paths() -> None:
    """A path is tidied up after it was decided who may ask it."""
    from ai_stack.rest import requests

    original = requests.Needs.caller

    async def caller(self: Any, scope: Any) -> Any:
        from ai_stack.models.principals import Principal

        raw = scope["raw_path"]
        odd = b"//" in raw or b"/." in raw or b";" in raw or b"%" in raw
        return Principal() if odd else await original(self, scope)

    replace(requests.Needs, "caller", caller)


@plant
def open_without_redis() -> None:
    """Who cannot be counted is let in, whoever that is."""
    from ai_stack.caches.counters import Count
    from ai_stack.errors import Forbidden, Unauthenticated, Unavailable
    from ai_stack.models.principals import Principal
    from ai_stack.rest import requests

    original = requests.caller_of

    async def caller_of(scope: Any) -> Any:
        try:
            return await original(scope)
        except (Forbidden, Unauthenticated):
            try:
                counters = scope["state"]["stack"].limits.windows.counters
                await counters.add([Count("alive", 1, 0, 60)])
            except Unavailable:
                return Principal()
            raise

    replace(requests, "caller_of", caller_of)


@plant
def limits_need_redis() -> None:
    """Without Redis nothing that is limited is served."""
    from ai_stack.errors import Unavailable
    from ai_stack.services.limits.ledgers import Windows

    def without(self: Any, budget: Any, needed: int, wanted: int) -> Any:
        raise Unavailable

    replace(Windows, "_without", without)


@plant
def stubborn_limits() -> None:
    """Redis is asked again and again before it is given up."""
    import asyncio

    from ai_stack.caches.counters import RedisCounters
    from ai_stack.errors import Unavailable

    original = RedisCounters.take

    async def take(self: Any, count: Any) -> Any:
        for _ in range(5):
            try:
                return await original(self, count)
            except Unavailable:
                await asyncio.sleep(0.2)
        return await original(self, count)

    replace(RedisCounters, "take", take)


@plant
def shared_answers() -> None:
    """The cache of answers keeps them under a key without the project."""
    from ai_stack.models.principals import DEFAULT_PROJECT
    from ai_stack.services.inference import answers

    original = answers._scope
    replace(answers, "_scope", lambda project_id, *named: original(DEFAULT_PROJECT, *named))


@plant
def shared_questions() -> None:
    """Nearly equal questions meet in one place, whoever asks them."""
    from ai_stack.models.principals import DEFAULT_PROJECT
    from ai_stack.services.inference.similar import SimilarAnswers

    original = SimilarAnswers.question

    async def question(self: Any, call: Any, project_id: Any, *more: Any) -> Any:
        return await original(self, call, DEFAULT_PROJECT, *more)

    replace(SimilarAnswers, "question", question)
