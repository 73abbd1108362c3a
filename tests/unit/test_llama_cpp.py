"""How llama.cpp servers are started: their flags, what they say, their ports."""

import json
from pathlib import Path

from ai_stack.settings import load_settings
from ai_stack.supervisor import llama_cpp
from ai_stack.supervisor.llama_cpp import Load, Program
from ai_stack.supervisor.ports import Ports, free_port

LOG = """
0.00.008.160 E llama_model_load_from_file_impl: failed to load model
0.00.008.201 E gguf_init_from_reader: invalid magic characters: 'root', expected 'GGUF'
0.00.008.208 E llama_model_load: error loading model: failed to load model from /x
0.00.008.212 I srv    operator(): operator(): cleaning up before exit...
"""
LISTED = """Available devices:
  CUDA0: NVIDIA H200 (143771 MiB, 142000 MiB free)
  Vulkan1: A card (with brackets) (8192 MiB, 7000 MiB free)
"""


def test_the_reason_of_a_failure_is_found_among_the_last_lines():
    assert llama_cpp.trouble(LOG.splitlines()) == (
        "invalid magic characters: 'root', expected 'GGUF'"
    )
    assert llama_cpp.trouble(["all is well"]) == ""


def test_devices_are_read_as_llama_server_lists_them():
    assert llama_cpp.devices(LISTED) == {"CUDA0": 142000 << 20, "Vulkan1": 7000 << 20}
    assert llama_cpp.devices("Available devices:\n  (none)\n") == {}


def test_an_older_program_gets_only_the_flags_that_it_names(tmp_path: Path):
    load = Load("m", tmp_path / "m.gguf", 4096, 8080)
    settings = load_settings({"HOME": str(tmp_path)})
    old = Program(("llama-server",), "-m, --model\n--metrics  enable\n--no-webui\n-lv N")
    words = llama_cpp.arguments(old, load, settings, 512)
    assert {"--metrics", "--no-webui"} <= {*words}
    assert not {"--jinja", "--cors-origins", "--cache-ram", "-lv", "-ngl"} & {*words}
    new = llama_cpp.arguments(Program(("llama-server",)), load, settings, 512)
    assert new[new.index("--cors-origins") + 1] == "localhost"


def test_a_port_serves_no_other_model_for_a_while(tmp_path: Path):
    file, port = tmp_path / "ports", free_port()
    ports = Ports(port, file, keep=False)
    assert ports.any("one", ()) == port
    ports.left(port, "one")
    assert ports.any("two", ()) != port
    assert Ports(port, file, keep=False).any("two", ()) != port
    assert Ports(port, file, keep=False).any("one", ()) == port
    seen = json.loads(file.read_text())
    file.write_text(json.dumps({**seen, str(port): 7}))
    assert Ports(port, file, keep=True).any("two", ()) != port
