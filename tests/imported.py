"""Modules of folders that are no packages, as the programs there have them."""

import importlib
from pathlib import Path
from types import ModuleType

import pytest


def imported(monkeypatch: pytest.MonkeyPatch, folder: Path, name: str) -> ModuleType:
    monkeypatch.syspath_prepend(str(folder))
    return importlib.import_module(name)
