"""The engines in use and the models that they serve, asked again every few seconds."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from ai_stack.engines import Engine
from ai_stack.errors import AIStackError, EngineUnavailable, InvalidRequest, ModelNotFound
from ai_stack.models.inference import Operation, ServedModel

REFRESH_S, PROBE_S, ANEW_S = 5.0, 4.0, 0.5
FIRST_S = 10.0  # an engine that is busy as a gateway begins is not one that is away
FAILURES, FIRST_PAUSE_S, LONGEST_PAUSE_S = 3, 1.0, 30.0
ONE_DEATH_S = 0.1
CAPACITY = 256
KNOWN_BLOCKS = 1 << 14
KNOWN_NAMES = 1024

log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class Member:
    """One engine: what it serves, how much of its work is ours, and whether it is trusted now.

    `slots` are the requests that it works on at once, by model: each has its own, so that one's
    crowd keeps nobody from another. After FAILURES in a row it is left alone for a time that
    doubles, then one request tries it.
    """

    engine: Engine
    models: Sequence[ServedModel] = ()
    asked: bool = False
    outstanding: int = 0
    failures: int = 0
    failed_at: float = float("-inf")
    shunned_until: float = 0.0
    slots: dict[str, int] = field(default_factory=dict)
    working: dict[str, int] = field(default_factory=dict)
    blocks: OrderedDict[bytes, None] = field(default_factory=OrderedDict)

    def offer(self, models: Sequence[ServedModel]) -> None:
        """It serves these now, each with slots of its own."""
        self.models = models
        self.slots = {model.id: model.slots or CAPACITY for model in models}

    def has_room(self, model: str) -> bool:
        return self.working.get(model, 0) < self.slots.get(model, CAPACITY)

    def take(self, model: str) -> None:
        """One more request of this model is ours."""
        self.outstanding += 1
        self.working[model] = self.working.get(model, 0) + 1

    def give_back(self, model: str) -> None:
        """One less; a model without any is forgotten."""
        self.outstanding -= 1
        self.working[model] -= 1
        if not self.working[model]:
            del self.working[model]

    def serves(self, model: str) -> ServedModel | None:
        return next((m for m in self.models if m.id == model), None)

    def failed(self) -> None:
        """Count a failure; the requests that one death ends are one."""
        now = time.monotonic()
        if now - self.failed_at < ONE_DEATH_S:
            return
        self.failures, self.failed_at = self.failures + 1, now
        if self.failures >= FAILURES:
            pause = FIRST_PAUSE_S * 2.0 ** min(self.failures - FAILURES, 10)
            self.shunned_until = now + min(pause, LONGEST_PAUSE_S)

    def succeeded(self) -> None:
        self.failures, self.shunned_until = 0, 0.0

    def remember(self, blocks: Sequence[bytes]) -> None:
        """Its cache holds these beginnings of prompts now."""
        for block in blocks:
            self.blocks[block] = None
            self.blocks.move_to_end(block)
        while len(self.blocks) > KNOWN_BLOCKS:
            self.blocks.popitem(last=False)


@dataclass(frozen=True, slots=True)
class Pool:
    """A model and the engines that serve it.

    `revision` changes when any of them serves other weights under its id.
    """

    model: ServedModel
    members: Sequence[Member]
    revision: str


class Fleet:
    """All engines; `default` names the model of a request that names none."""

    def __init__(self, engines: Sequence[Engine], default: str | None = None) -> None:
        self.members = [Member(engine) for engine in engines]
        self._default = default
        self._pools: dict[tuple[str, Operation], Pool] = {}
        self._names: dict[str, str] = {}
        self._looked_at = float("-inf")
        self._looking = asyncio.Lock()

    async def keep_looking(self) -> None:
        """Ask all engines what they serve, again and again, without end."""
        while True:
            await self.look()
            await asyncio.sleep(REFRESH_S)

    async def look(self) -> None:
        """Ask all engines once; one that does not answer keeps what it had, and is shunned."""
        await asyncio.gather(*map(self._ask, self.members))
        self._looked_at = asyncio.get_running_loop().time()

    async def _ask(self, member: Member) -> None:
        before = member.models
        try:
            async with asyncio.timeout(PROBE_S if member.asked else FIRST_S):
                member.offer(await member.engine.models())
        except (AIStackError, TimeoutError):
            member.failed()
            if member.failures >= FAILURES:
                member.offer(())
        else:
            member.succeeded()
        member.asked = True
        if member.models != before:
            self._forget(member)

    def _forget(self, member: Member) -> None:
        ids = ", ".join(m.id for m in member.models) or "nothing"
        log.info("%s serves %s", member.engine.name, ids)
        member.blocks.clear()
        self._pools.clear()
        self._names.clear()

    async def ping(self) -> str:
        """What is served; EngineUnavailable when engines are configured and none answers.

        One that failed may be back: it is asked again, not told of from memory.
        """
        if not any(member.asked and not member.failures for member in self.members):
            await self._look_anew()
        if all(member.failures for member in self.members):
            raise EngineUnavailable("No inference engine answers.")
        loaded = [model.id for model in self.models() if model.loaded]
        return ", ".join(loaded[:5]) or "no model is loaded"

    def models(self) -> list[ServedModel]:
        """Every model that is served, the default one first, else in the order of the engines."""
        found: dict[str, ServedModel] = {}
        for member in self.members:
            for model in member.models:
                known = found.get(model.id)
                if known is None or (model.context_length or 0) < (known.context_length or 0):
                    found[model.id] = model
        default = self._known(self._default) if self._default else None
        return sorted(found.values(), key=lambda model: model.id != default)

    def serving(self, model: str) -> dict[str, ServedModel]:
        """The engines that serve a model, by their names, each with what it serves."""
        found = ((m.engine.name, m.serves(model)) for m in self.members)
        return {name: served for name, served in found if served is not None}

    def known(self, name: str | None, operation: Operation) -> Pool | None:
        """What `pool` has told before; None where it has to look."""
        return self._pools.get((name or "", operation))

    async def pool(self, name: str | None, operation: Operation) -> Pool:
        """The engines for a model, by its id or a name that means it; None is the default one.

        Raises ModelNotFound, InvalidRequest for a model that cannot do this, and
        EngineUnavailable while no engine has ever answered.
        """
        found = self.known(name, operation)
        if found is None:
            found = self._pool(name, operation) or await self._after_look(name, operation)
            if len(self._pools) >= KNOWN_NAMES:  # a client may call a model in endless ways
                self._pools.clear()
            self._pools[name or "", operation] = found
        return found

    async def _after_look(self, name: str | None, operation: Operation) -> Pool:
        """As `_pool`, asking the engines first: the model may have come since."""
        await self._look_anew()
        found = self._pool(name, operation)
        if found is not None:
            return found
        if not self.members:
            raise ModelNotFound("No inference engine is configured: see AI_STACK_ENGINES.")
        if not any(member.models for member in self.members) and self._is_ill():
            raise EngineUnavailable
        if not self.models():
            raise ModelNotFound(
                "No model is served yet: `ai-stack models pull NAME` brings one, and "
                "LLAMA_CPP_DEFAULT_MODEL names the one to begin with."
            )
        if not (name or self._default):
            raise ModelNotFound(
                f"No model that is served here does {operation}: GET /inference/models tells "
                "what each one does."
            )
        raise ModelNotFound(
            f"The model {(name or self._default or '')[:200]!r} is not served here: "
            "GET /v1/models lists those that are, and `ai-stack models pull` brings others."
        )

    async def _look_anew(self) -> None:
        """Look, where the last look is not of this moment; one serves all who wait for it."""
        async with self._looking:
            if asyncio.get_running_loop().time() - self._looked_at > ANEW_S:
                await self.look()

    def _is_ill(self) -> bool:
        return any(member.failures for member in self.members)

    def _pool(self, name: str | None, operation: Operation) -> Pool | None:
        id = self._id(name, operation)
        if id is None:
            return None
        members = [m for m in self.members if (s := m.serves(id)) and operation in s.operations]
        if not members:
            raise InvalidRequest(
                f"The model {id!r} does no {operation}: GET /inference/models tells what it does.",
                fields={"model": operation},
            )
        model = next(model for model in self.models() if model.id == id)
        found = (member.serves(id) for member in members)
        revision = "|".join(sorted({m.revision for m in found if m is not None}))
        return Pool(model, members, revision)

    def _id(self, name: str | None, operation: Operation) -> str | None:
        if name or self._default:
            return self._known(name or self._default or "")
        able = (model.id for model in self.models() if operation in model.operations)
        return next(able, None)

    def _known(self, name: str) -> str | None:
        """The id that a name means: the id itself, or a hub's repository without its owner."""
        if not self._names:
            for member in self.members:
                for model in member.models:
                    self._names.setdefault(_plain(model.id), model.id)
                    self._names[model.id] = model.id
        return self._names.get(name) or self._names.get(_plain(name))


def _plain(name: str) -> str:
    return name.rpartition("/")[2].casefold().removesuffix(".gguf").removesuffix("-gguf")
