"""The host of models: loads and unloads llama.cpp servers, one a model, and tells where they are.

    python -m ai_stack.supervisor.models --socket PATH

The settings come from the environment. It answers on the socket, and serves no model itself.
"""

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from ai_stack.channel import ChannelServer
from ai_stack.errors import AIStackError, EngineUnavailable, ModelNotFound, StackError
from ai_stack.settings import Settings, environment_of, load_settings
from ai_stack.supervisor import llama_cpp
from ai_stack.supervisor.account import Account
from ai_stack.supervisor.child import Child, Launcher
from ai_stack.supervisor.keeper import Backoff
from ai_stack.supervisor.machine import Machine
from ai_stack.supervisor.occupancy import Occupancy
from ai_stack.supervisor.ports import Ports
from ai_stack.supervisor.resident import Resident, Transcript
from ai_stack.weights import names
from ai_stack.weights.shelf import FOLDER, Model, Shelf, Unfinished, is_path

Answer = tuple[Mapping[str, Any], bytes]
Row = dict[str, object]

SWEEP_S = 15.0
PULLING = (sys.executable, "-m", "ai_stack.supervisor.pull_child")

log = logging.getLogger("ai_stack.models")


class Host:
    """Answers what may be asked of the models of the shelf; keeps the default one loaded."""

    def __init__(
        self,
        settings: Settings,
        shelf: Shelf,
        launcher: Launcher,
        machine: Machine,
        backoff: Backoff | None = None,
    ) -> None:
        self._settings, self._shelf, self._launcher = settings, shelf, launcher
        self._default = settings.llama_cpp_default_model
        file = settings.runtime / "models.ports"
        ports = Ports(settings.llama_cpp_port, file, keep=self._default is not None)
        self._backoff = backoff or Backoff()
        self.occupancy = Occupancy(
            settings, launcher, machine, ports, crashed=self._on_crash, backoff=self._backoff
        )
        self._elsewhere: dict[str, Model] = {}
        self._default_id = ""
        self._missing = ""
        self._pulling: Child | None = None
        self._again = asyncio.Event()

    async def list(self, header: Mapping[str, Any], body: bytes) -> Answer:
        """`models`: all on the shelf, the default one first, and what is being downloaded."""
        rows = [self._row(model) for model in self._models()]
        coming = [_coming(found) for found in self._shelf.unfinished() if found.repository]
        if self._default and not self._default_id:
            coming = [self._absent_default(coming)]
        return {"models": [*rows, *coming]}, b""

    async def serve(self, header: Mapping[str, Any], body: bytes) -> Answer:
        """`url` of the model's server, which is loaded first where it is not."""
        model = self._found(header["model"])
        resident = await self.occupancy.serve(model, first=model.id == self._default_id)
        return {"url": resident.url, "model": model.id}, b""

    async def stop(self, header: Mapping[str, Any], body: bytes) -> Answer:
        await self.occupancy.stop(self._found(header["model"]).id)
        return {}, b""

    async def touch(self, header: Mapping[str, Any], body: bytes) -> Answer:
        """The model was used just now."""
        if (resident := self.occupancy.residents.get(header["model"])) is not None:
            resident.touch()
        return {}, b""

    async def ping(self, header: Mapping[str, Any], body: bytes) -> Answer:
        return {"loaded": [*self.occupancy.residents]}, b""

    async def keep_default(self) -> None:
        """Have the default model loaded, and loaded again when its server broke down."""
        crashes = 0
        while self._default is not None:
            self._again.clear()
            try:
                await self._load_default(self._default)
            except AIStackError as error:
                crashes += 1
                self._tell_missing(error)
                await asyncio.sleep(self._backoff.pause_s(crashes))
            else:
                crashes, self._missing = 0, ""
                await self._again.wait()

    async def sweep(self) -> None:
        """Unload what is idle, for as long as the host runs."""
        idle_s = self._settings.llama_cpp_idle_s
        while idle_s:
            await asyncio.sleep(min(SWEEP_S, idle_s / 3))
            await self.occupancy.unload_idle(idle_s)

    async def close(self) -> None:
        if self._pulling is not None:
            await self._pulling.stop(signal.SIGTERM, 1.0)
        await self.occupancy.stop_all()

    def _on_crash(self, id: str) -> None:
        if id == self._default_id:
            self._again.set()

    def _tell_missing(self, error: AIStackError) -> None:
        if not self._default_id and error.message != self._missing:
            log.error("%s", error.message)
            self._missing = error.message

    async def _load_default(self, name: str) -> None:
        model = self._shelf.find(name)
        if model is None:
            await self._pull(name)
            model = self._shelf.get(name)
        model = self._kept(model)
        self._default_id = model.id
        await self.occupancy.serve(model, first=True)

    async def _pull(self, name: str) -> None:
        """Download a model to the shelf; raises StackError with the reason when that fails."""
        if is_path(name):
            raise StackError(f"LLAMA_CPP_DEFAULT_MODEL: there is no file {name}.")
        names.resolve(name)
        said = Transcript(name, stamped=False)
        environment = environment_of(self._settings)
        self._pulling = self._launcher.start((*PULLING, name), environment, said)
        try:
            status = await self._pulling.wait()
        finally:
            self._pulling.kill_group()
            self._pulling = None
        if status != 0:
            reason = said.lines[-1].partition(" ERROR ")[2] if said.lines else ""
            raise StackError(reason or f"{name} could not be downloaded.")

    def _kept(self, model: Model) -> Model:
        """A model that may lie elsewhere than on the shelf, so that it is listed from now on."""
        listed = {each.id: each for each in self._shelf.all()}
        if model.id in listed and listed[model.id].file == model.file:
            return model
        if model.id in listed:
            model = replace(model, id=str(model.file))
        self._elsewhere[model.id] = model
        return model

    def _models(self) -> Iterator[Model]:
        found = {model.id: model for model in (*self._shelf.all(), *self._elsewhere.values())}
        if self._default_id in found:
            yield found.pop(self._default_id)
        yield from found.values()

    def _found(self, name: str) -> Model:
        """By id or any other name; raises ModelNotFound, or says that it is on its way."""
        if name in self._elsewhere and self._elsewhere[name].file.exists():
            return self._elsewhere[name]
        model = self._shelf.find(name)
        if model is not None:
            return self._kept(model)
        if name == self._default and self._pulling is not None:
            raise EngineUnavailable(f"{name} is being downloaded; see `ai-stack models list`.")
        if name == self._default and self._missing:
            raise EngineUnavailable(self._missing)
        if is_path(name):
            raise ModelNotFound(f"There is no file {name}.")
        return self._shelf.get(name)

    def _row(self, model: Model) -> Row:
        resident = self.occupancy.residents.get(model.id)
        failure = self.occupancy.failures.get(model.id)
        row: Row = {
            "id": model.id,
            "file": str(model.file),
            "size_bytes": model.size_bytes,
            "context_length": self.occupancy.context_length(model),
            "trained_context_length": model.context_length,
            "slots": self._settings.llama_cpp_web_concurrency,
            "kind": model.kind,
            "quantization": model.quantization,
            "revision": model.revision,
            "created": _created(model),
            "estimate_bytes": self.occupancy.estimate(model).total_bytes,
            "state": "stopped",
        }
        if resident is not None:
            return {**row, **_running(resident)}
        if failure is not None:
            return {**row, "state": "failed", "error": failure.message}
        return row

    def _absent_default(self, coming: Sequence[Row]) -> Row:
        """The default model before it is here: on its way, or why it is not."""
        name = str(self._default)
        if self._pulling is None and self._missing:
            row: Row = {"state": "failed", "error": self._missing}
        else:
            row = {"state": "downloading", "done_bytes": 0}
        known = coming[0] if coming and self._pulling is not None else {}
        return {"file": "", "size_bytes": 0, "context_length": None, **known, **row, "id": name}


def _running(resident: Resident) -> Row:
    row: Row = {"state": resident.state, "last_used": resident.last_used}
    return {**row, "url": resident.url} if resident.state == "ready" else row


def _coming(found: Unfinished) -> Row:
    return {
        "id": found.repository,
        "file": "",
        "size_bytes": found.size_bytes,
        "done_bytes": found.done_bytes,
        "quantization": found.quantization,
        "context_length": None,
        "state": "downloading",
    }


def _created(model: Model) -> int:
    """Unix seconds of the moment that it came to the shelf."""
    try:
        return int(datetime.fromisoformat(model.pulled_at).timestamp())
    except ValueError:
        return 0


async def serve(socket: Path, settings: Settings) -> None:
    """Serve until SIGTERM; all servers are stopped then."""
    account = Account(os.getuid(), os.getgid(), "", "")  # it was given by whoever started this
    launcher = Launcher(account, settings.data_dir, llama_cpp.environment(settings.data_dir))
    shelf = Shelf(settings.data_dir / FOLDER)
    host = Host(settings, shelf, launcher, Machine(settings, launcher))
    handlers = {name: getattr(host, name) for name in ("ping", "list", "serve", "stop", "touch")}
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    server = asyncio.create_task(ChannelServer(handlers).serve(socket))
    server.add_done_callback(lambda _: stopped.set())
    tasks = [server, asyncio.create_task(host.keep_default()), asyncio.create_task(host.sweep())]
    try:
        await stopped.wait()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await host.close()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m ai_stack.supervisor.models")
    parser.add_argument("--socket", type=Path, required=True)
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        asyncio.run(serve(given.socket, load_settings()))
    except AIStackError as error:
        log.error("%s", error.message)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
