"""Rows 5, 8 and 9: engines that die, engines that talk nonsense, and a gateway that is stopped."""

import asyncio
import random
import signal
from collections import Counter
from dataclasses import dataclass, field

from reliability.engines import Engine, Gateway, before, engines
from reliability.shapes import SHAPES
from reliability.streaming import Caller, Stream, chat
from reliability.verdicts import Measured, Row, Trial

FLEET, HELD, AFTER = 3, 4, 2
DEADLINE_S, SLACK_S = 4, 3.0
OPEN, KNOCK_S, LONGEST_END_S = 100, 0.02, 60
RAW = (b"Traceback", b"ai_stack", b"asyncio", b"httptools", b"Errno", b"/opt/", b"orjson", b"0x7f")
UNSEEN = ("never retrieved", "Exception in callback", "Exception in ASGI", "Unhandled")


@dataclass
class Kills:
    """What became of the streams that were cut, of the calls that waited, and of those after."""

    cut: Counter[str] = field(default_factory=Counter)
    waiting: Counter[str] = field(default_factory=Counter)
    after: Counter[str] = field(default_factory=Counter)


async def measure_kills(trial: Trial) -> Measured:
    dice, seen = random.Random(trial.seed), Kills()
    with engines(FLEET) as fleet:
        async with before(trial, fleet) as gateway:
            for number in range(trial.size(10, 200)):
                await _kill_one(trial, gateway, fleet, dice, seen, number)
            faults = _unseen(trial)
    wrong = Counter({end: n for end, n in seen.cut.items() if end != "error"})
    faults += [f"{n} of the streams that were cut ended {end}" for end, n in wrong.items()]
    for name, ends in (("held", seen.waiting), ("asked after", seen.after)):
        bad = {end: n for end, n in ends.items() if end != "done"}
        faults += [f"calls {name} when an engine died ended {bad}"] if bad else []
    figures = {
        "killed": sum(seen.cut.values()),
        "error events": seen.cut["error"],
        "[DONE]": seen.cut["done"],
        "held and answered by others": f"{seen.waiting['done']}/{sum(seen.waiting.values())}",
        "asked after and answered": f"{seen.after['done']}/{sum(seen.after.values())}",
    }
    return Measured(figures, tuple(faults))


async def _kill_one(
    trial: Trial,
    gateway: Gateway,
    fleet: list[Engine],
    dice: random.Random,
    seen: Kills,
    number: int,
) -> None:
    """One engine dies under a stream, while calls wait for their first byte at it and others."""
    orders = {"chunks": 2000, "delay_ms": 5, "turn": number}
    victim = Caller(gateway.port, chat(orders), timeout_s=30)
    task = asyncio.create_task(victim.ask())
    held = [
        asyncio.create_task(_whole(gateway, {"hold_ms": 400, "turn": number, "call": call}, call))
        for call in range(HELD)
    ]
    await asyncio.sleep(0.1)  # the held ones are at their engines
    await _events(victim, task, dice.randint(1, 40))
    engine = next((e for e in fleet if str(e.port) == victim.stream.engine), fleet[0])
    await asyncio.to_thread(engine.kill)
    later = [_whole(gateway, {"turn": number, "after": call}, call) for call in range(AFTER)]
    ends = await asyncio.gather(task, *held, *later)
    kinds = [stream.ending for stream in ends]
    trial.log.write("killed", port=engine.port, events=len(ends[0].events), ends=kinds)
    seen.cut[kinds[0]] += 1
    seen.waiting.update(kinds[1 : 1 + HELD])
    seen.after.update(kinds[1 + HELD :])
    engine.start()
    await engine.listening()


async def _events(caller: Caller, task: "asyncio.Task[Stream]", count: int) -> None:
    """Wait until so many events have come, or the stream is over."""
    while len(caller.stream.events) < count and not task.done():
        await asyncio.sleep(0.002)


async def _whole(gateway: Gateway, orders: dict[str, object], number: int) -> Stream:
    """One call that must succeed: streamed and not in turn; `done` for a whole answer too."""
    body = chat({"chunks": 3, "delay_ms": 1, **orders}, stream=number % 2 == 0)
    stream = await Caller(gateway.port, body, timeout_s=30).ask()
    if not body["stream"] and stream.status == 200 and b"All is well" in stream.body:
        stream.ending = "done"
    return stream


async def measure_shapes(trial: Trial) -> Measured:
    """Every shape, and after each an ordinary request, which must not suffer from it."""
    ends, faults = Counter[str](), []
    with engines(1) as fleet:
        async with before(trial, fleet) as gateway:
            for name, shape in SHAPES.items():
                stream = await _shaped(gateway, name)
                trial.log.write(
                    "shape",
                    name=name,
                    wanted=shape.end,
                    ending=stream.ending,
                    body=stream.body[-500:],
                )
                ends[stream.ending] += 1
                faults += _shape_faults(name, shape.end, stream)
                if (await _whole(gateway, {"after": name}, 0)).ending != "done":
                    faults.append(f"{name}: the request after it failed")
            faults += _unseen(trial)
    figures = {"shapes": len(SHAPES), "hung": ends["hung"], "raw": ends["odd"] + ends["cut"]}
    return Measured({**figures, "faults": len(faults)}, tuple(faults))


async def _shaped(gateway: Gateway, name: str) -> Stream:
    orders, deadline = {"shape": name}, {"X-Timeout": str(DEADLINE_S)}
    caller = Caller(gateway.port, chat(orders), headers=deadline, timeout_s=DEADLINE_S + SLACK_S)
    return await caller.ask()


def _shape_faults(name: str, wanted: str, stream: Stream) -> list[str]:
    faults = [f"{name}: the client saw {raw.decode()!r}" for raw in RAW if raw in stream.body]
    clean = stream.ending == "done"
    broken = stream.ending in ("error", "refused")
    if (wanted == "done" and not clean) or (wanted == "error" and not broken):
        faults.append(f"{name}: it ended {stream.ending}")
    if not clean and not broken and wanted == "either":
        faults.append(f"{name}: it ended {stream.ending}")
    return faults


def _unseen(trial: Trial) -> list[str]:
    """Exceptions that nobody caught, by the gateway's log."""
    text = (trial.ground.folder / f"{trial.plant or 'none'}.log").read_text(errors="replace")
    return [f"the gateway's log has {sign!r}" for sign in UNSEEN if sign in text]


async def measure_stop(trial: Trial) -> Measured:
    """SIGTERM under open streams, while others still knock."""
    chunks = trial.size(60, 800)  # 3 s, and 40 s, as long answers of local models take
    with engines(1, "--chunks", str(chunks), "--delay-ms", "50") as fleet:
        async with before(trial, fleet) as gateway:
            opened = [Caller(gateway.port, chat({"turn": n}), timeout_s=120) for n in range(OPEN)]
            tasks = [asyncio.create_task(caller.ask()) for caller in opened]
            await asyncio.gather(*(caller.begun.wait() for caller in opened))
            trial.log.write("open", streams=sum(bool(c.stream.events) for c in opened))
            gateway.process.send_signal(signal.SIGTERM)
            knocked = await _knock(gateway, tasks)
            ends = Counter(stream.ending for stream in await asyncio.gather(*tasks))
            code = await asyncio.to_thread(gateway.process.wait, LONGEST_END_S)
    dropped = sum(n for (connected, end), n in knocked.items() if connected and end not in KEPT)
    trial.log.write("ended", ends=ends, knocked={str(k): n for k, n in knocked.items()}, code=code)
    faults = [f"{n} open streams ended {end}" for end, n in ends.items() if end != "done"]
    faults += [f"{dropped} requests were accepted, then dropped"] if dropped else []
    faults += [f"the gateway ended with {code}"] if code not in (0, -signal.SIGTERM) else []
    figures = {"open": OPEN, "complete": ends["done"], "knocked": sum(knocked.values())}
    return Measured({**figures, "accepted then dropped": dropped}, tuple(faults))


KEPT = ("done", "refused")


async def _knock(
    gateway: Gateway, tasks: "list[asyncio.Task[Stream]]"
) -> Counter[tuple[bool, str]]:
    """New requests for as long as the open streams last: whether one connected, and its end."""
    seen = Counter[tuple[bool, str]]()
    while not all(task.done() for task in tasks):
        orders = {"chunks": 3, "delay_ms": 20}
        caller = Caller(gateway.port, chat(orders), timeout_s=30)
        stream = await caller.ask()
        seen[caller.connected, stream.ending] += 1
        await asyncio.sleep(KNOCK_S)
    return seen


ROWS = (
    Row(
        5,
        "kill the inference engine mid-stream",
        "200 explicit error events, never [DONE]; others fail over before the first byte",
        measure_kills,
        ("false-end", "no-failover"),
    ),
    Row(
        8,
        f"{len(SHAPES)} malformed or odd SSE shapes from an engine",
        "0 hung, 0 raw exceptions; [DONE] only where the engine's own was clean",
        measure_shapes,
        ("false-end", "trusting-relay"),
        calm=True,
    ),
    Row(
        9,
        f"SIGTERM with {OPEN} open streams",
        f"{OPEN} complete, 0 accepted then dropped",
        measure_stop,
        ("hasty-end",),
    ),
)
