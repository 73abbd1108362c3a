"""From MiniLM to another real model and back, by the real command, under searches and writes."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

import word_vectors
from shells import Shell

MINILM = "all-MiniLM-L6-v2"
FACTS = {
    "kettle": "Descale the kettle with vinegar once a month.",
    "ferry": "The last ferry to the island leaves at nine in the evening.",
    "roof": "Slates that slipped in the storm are laid again by the roofer.",
    "bees": "In autumn the hives are fed with sugar syrup.",
    "piano": "The piano is tuned before the winter concert.",
    "vines": "Prune the vines while they sleep, never in frost.",
}
QUESTIONS = {"kettle": "vinegar for the kettle", "bees": "sugar syrup for hives"}


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    made = Shell(tmp_path_factory.mktemp("home"))
    described = word_vectors.make(made.home / "word-vectors")
    made.environment["AI_STACK_EMBEDDING_DESCRIPTION"] = str(described)
    try:
        made("up", "--detach")
        folder = made.home / "facts"
        folder.mkdir()
        for name, text in FACTS.items():
            (folder / f"{name}.md").write_text(f"# {name.title()}\n\n{text}\n")
        for n in range(60):
            (folder / f"n{n}.md").write_text(f"# Note {n}\n\nEntry {n} of the log says nothing.\n")
        made("import", str(folder), "--prefix", "facts/")
        yield made
    finally:
        made("down")


class Living:
    """Somebody who searches and writes without a pause, and keeps what went wrong."""

    def __init__(self, base: str) -> None:
        self.client = httpx.Client(base_url=base, timeout=30)
        self.answers, self.written = 0, 0
        self.wrong: list[str] = []

    def once(self) -> None:
        for name, question in QUESTIONS.items():
            body = {"query": question, "mode": "semantic", "limit": 1}
            found = self.client.post("/search/semantic", json=body)
            answer = found.json()
            first = [r["document"]["id"] for r in answer.get("results", ())]
            if found.status_code != 200 or answer.get("degraded") or first != [f"facts/{name}.md"]:
                self.wrong.append(f"{found.status_code} {found.text[:300]}")
            self.answers += 1
        new = {"id": f"late/{self.written}", "content": f"Parcel {self.written} came late."}
        made = self.client.post("/documents", json=new)
        if made.status_code != 201:
            self.wrong.append(f"{made.status_code} {made.text[:300]}")
        self.written += 1

    @contextmanager
    def going_on(self) -> Iterator[None]:
        stop = threading.Event()

        def live() -> None:
            while not stop.is_set():
                self.once()

        thread = threading.Thread(target=live)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            self.client.close()


def states(shell: Shell) -> dict[str, tuple[str, int]]:
    """Name -> (state, numbers); none that answers, or did, lacks a vector."""
    found = json.loads(shell("embeddings", "list", "--json"))["items"]
    assert all(m["embedded"] == m["chunks"] > 0 for m in found if m["state"] != "building"), found
    return {m["key"].partition("@")[0]: (m["state"], m["dimensions"]) for m in found}


def first(shell: Shell, question: str) -> str:
    found = json.loads(shell("search", *question.split(), "--mode", "semantic", "--json"))
    assert not found.get("degraded")
    return str(found["results"][0]["document"]["id"])


def test_another_model_takes_over_while_searches_and_writes_go_on(shell: Shell) -> None:
    assert states(shell) == {MINILM: ("active", 384)}
    living = Living(f"http://127.0.0.1:{shell.environment['AI_STACK_PORT']}")
    with living.going_on():
        said = shell("embeddings", "migrate", word_vectors.NAME)
    assert "succeeded" in said
    assert living.wrong == []
    assert living.answers > 20
    expected = {MINILM: ("previous", 384), word_vectors.NAME: ("active", 128)}
    assert states(shell) == expected, "what was written meanwhile has vectors of both"
    assert "Everything agrees" in shell("fsck")


def test_what_the_new_model_cannot_know_it_does_not_find(shell: Shell) -> None:
    """The answers really are the other model's: it has no idea of meaning beyond words."""
    for name, question in QUESTIONS.items():
        assert first(shell, question) == f"facts/{name}.md"
    shell("documents", "add", "--id", "late/new", "--text", "A marmot whistles at the eagle.")
    assert first(shell, "marmot whistles") == "late/new"
    assert states(shell)[MINILM] == ("previous", 384)


def test_the_way_back_has_kept_in_step(shell: Shell, tmp_path: Path) -> None:
    assert MINILM in shell("embeddings", "back")
    assert states(shell) == {MINILM: ("active", 384), word_vectors.NAME: ("previous", 128)}
    assert first(shell, "marmot whistles") == "late/new"
    assert first(shell, "how do I get rid of limescale where I boil water") == "facts/kettle.md"
    assert "Everything agrees" in shell("fsck")


def test_the_setting_alone_begins_a_migration(shell: Shell) -> None:
    shell("embeddings", "drop", word_vectors.NAME)
    file = shell.home / ".config/nixos-ai-stack/.env"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"AI_STACK_EMBEDDING_MODEL={word_vectors.NAME}\n")
    shell("restart")
    deadline = time.monotonic() + 60
    while len(found := states(shell)) < 2 or found[MINILM][0] == "active":
        assert time.monotonic() < deadline, found
        time.sleep(1)
    assert found == {MINILM: ("previous", 384), word_vectors.NAME: ("active", 128)}
    assert first(shell, "marmot whistles") == "late/new"
