"""Whether the gateway's memory stays flat, also with a part down or not configured.

The log keeps 20,000 rows for a PostgreSQL that is down, so memory is warm only after that many
requests: a soak of fewer than 70,000 says nothing of that way.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from contenders import LOAD_CORE, Gateway, held
from instant import MODEL
from rivals import Stack
from wrk import body, load

SLICES, CONNECTIONS = 10, 16
WARM = 3  # slices until every pool, buffer and cache has its size
GROWTH = 0.05  # of memory, from the warm state to the end
WAYS = (
    "all up",
    "Redis down",
    "PostgreSQL down",
    "engine down",
    "Redis unconfigured",
    "PostgreSQL unconfigured",
)
NO_ENGINE = {"engine down": {"AI_STACK_ENGINES": "http://127.0.0.1:9/v1"}}
DOWN = {"Redis down": "redis", "PostgreSQL down": "postgres"}
UNSET = {
    "Redis unconfigured": "AI_STACK_REDIS_URL",
    "PostgreSQL unconfigured": "AI_STACK_DATABASE_URL",
}


@dataclass(frozen=True)
class Soak:
    """Resident MB once warm and at the end; `errors` are failures and statuses above 399.

    `refused` is why the gateway did not start at all, which keeps its memory flat too.
    """

    way: str
    requests: int = 0
    errors: int = 0
    warm_mb: float = 0
    last_mb: float = 0
    refused: str = ""

    @property
    def flat(self) -> bool:
        return bool(self.refused) or self.last_mb <= self.warm_mb * (1 + GROWTH)


def soak(stack: Stack, way: str, folder: Path, requests: int) -> Soak:
    """So many requests, each with a prompt of its own, half of them streamed."""
    with ExitStack() as exits:
        try:
            gateway = exits.enter_context(_running(stack, way, folder))
        except RuntimeError as error:
            return Soak(way, refused=str(error).strip().splitlines()[-1][:200])
        exits.enter_context(_without(stack, way))
        return _soaked(gateway, way, requests)


@contextmanager
def _running(stack: Stack, way: str, folder: Path) -> Iterator[Gateway]:
    unset = {UNSET[way]: None} if way in UNSET else NO_ENGINE.get(way, {})
    gateway = Gateway(stack, **unset)
    with gateway.running(folder, "/health/live"):
        yield gateway


@contextmanager
def _without(stack: Stack, way: str) -> Iterator[None]:
    if way not in DOWN:
        yield
        return
    with held(stack, DOWN[way]):
        yield


def _soaked(gateway: Gateway, way: str, requests: int) -> Soak:
    done, errors, sizes = 0, 0, []
    while done < requests:
        target = requests * (len(sizes) + 1) / SLICES
        turn = 0
        while done < target:
            turn += 1
            asked = body(MODEL, unique=True, stream=turn % 4 == 0)
            seen = load(gateway.port, asked, connections=CONNECTIONS, seconds=1, core=LOAD_CORE)
            if not seen.requests:
                return Soak(way, done, errors + 1, refused="no request was answered")
            done, errors = done + seen.requests, errors + seen.errors
        sizes.append(gateway.memory_mb())
    warm = sizes[min(WARM, len(sizes)) - 1]
    return Soak(way, done, errors, round(warm, 1), round(sizes[-1], 1))


def as_json(found: Soak) -> dict[str, object]:
    return {**asdict(found), "flat": found.flat}
