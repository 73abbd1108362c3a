"""llama.cpp's server out of the xllamacpp wheel, as a process that takes llama-server's flags.

It imports nothing of the stack. A signal ends it at once: it keeps nothing that could be lost.
"""

import argparse
import signal
import sys
import threading
from collections.abc import Sequence

import xllamacpp as llama

OF_THE_KV_CACHE = ("f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0")


def main(arguments: Sequence[str] | None = None) -> int:
    given = flags().parse_args(arguments)
    if given.list_devices:
        sys.stdout.write(f"{_devices()}\n")
        return 0
    try:
        server = llama.Server(_parameters(given))
    except (RuntimeError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stderr.write(f"serving {given.alias} at {server.listening_address}\n")
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Event().wait()
    return 0


def flags() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="llama-server", allow_abbrev=False)
    parser.add_argument("--list-devices", action="store_true")
    parser.add_argument("-m", "--model")
    parser.add_argument("--mmproj", default="")
    parser.add_argument("--alias", default="")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("-c", "--ctx-size", type=int, default=0)
    parser.add_argument("-np", "--parallel", type=int, default=1)
    parser.add_argument("-t", "--threads", type=int, default=0)
    parser.add_argument("-b", "--batch-size", type=int, default=2048)
    parser.add_argument("-ub", "--ubatch-size", type=int, default=512)
    parser.add_argument("-ngl", "--gpu-layers", type=int, default=-1)
    parser.add_argument("--device", default="")
    parser.add_argument("--cache-type-k", choices=OF_THE_KV_CACHE, default="f16")
    parser.add_argument("--cache-type-v", choices=OF_THE_KV_CACHE, default="f16")
    parser.add_argument("--cache-ram", type=int, default=8192, help="MiB")
    parser.add_argument("--cors-origins", default="*")
    parser.add_argument("-lv", "--log-verbosity", type=int, default=3)
    for switch in ("--embeddings", "--reranking", "--metrics", "--slots", "--jinja", "--no-webui"):
        parser.add_argument(switch, action="store_true")
    return parser


def _parameters(given: argparse.Namespace) -> "llama.CommonParams":
    parameters = llama.CommonParams()
    parameters.model.path, parameters.mmproj.path = given.model, given.mmproj
    parameters.model_alias = {given.alias}
    parameters.hostnames, parameters.port = [given.host], given.port
    parameters.n_ctx, parameters.n_parallel = given.ctx_size, given.parallel
    parameters.n_batch, parameters.n_ubatch = given.batch_size, given.ubatch_size
    parameters.n_gpu_layers = given.gpu_layers
    parameters.cache_type_k = _type(given.cache_type_k)
    parameters.cache_type_v = _type(given.cache_type_v)
    parameters.cache_ram_mib = given.cache_ram
    parameters.endpoint_metrics, parameters.endpoint_slots = given.metrics, given.slots
    parameters.use_jinja, parameters.ui = given.jinja, not given.no_webui
    parameters.cors_origins, parameters.cors_origins_explicit = given.cors_origins, True
    parameters.verbosity = given.log_verbosity
    if given.threads:
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = given.threads
    if given.device:
        _choose_device(parameters, given.device)
    parameters.embedding = given.embeddings or given.reranking
    if given.reranking:
        parameters.pooling_type = llama.llama_pooling_type.LLAMA_POOLING_TYPE_RANK
    return parameters


def _type(name: str) -> "llama.ggml_type":
    return getattr(llama.ggml_type, f"GGML_TYPE_{name.upper()}")


def _accelerators() -> list[dict[str, object]]:
    cpu = llama.ggml_backend_dev_type.GGML_BACKEND_DEVICE_TYPE_CPU
    return [device for device in llama.get_device_info() if device["type"] != cpu]


def _choose_device(parameters: "llama.CommonParams", name: str) -> None:
    """The wheel takes a device by its number, and one at most."""
    names = [str(device["name"]) for device in _accelerators()]
    if name == "none":
        parameters.n_gpu_layers = 0
    elif name in names:
        parameters.main_gpu = names.index(name)
        parameters.split_mode = llama.llama_split_mode.LLAMA_SPLIT_MODE_NONE
    else:
        raise ValueError(f"invalid device {name!r}; there is {', '.join(names) or 'none'}")


def _devices() -> str:
    """As llama-server lists them: name, description, and MiB in all and free."""
    lines = [
        f"  {found['name']}: {found['description']} "
        f"({_mib(found['memory_total'])} MiB, {_mib(found['memory_free'])} MiB free)"
        for found in _accelerators()
    ]
    return "\n".join(["Available devices:", *(lines or ["  (none)"])])


def _mib(size: object) -> int:
    return int(str(size)) >> 20


if __name__ == "__main__":
    raise SystemExit(main())
