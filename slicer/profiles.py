"""The shipped process and machine profiles (``processes/*.toml``, ``machines/*.toml``)."""

from __future__ import annotations

import tomllib
from functools import lru_cache
from importlib import resources
from importlib.resources.abc import Traversable

from batchone.pipeline.errors import OrderError
from batchone.pipeline.machine import Machine
from batchone.pipeline.process import Process


def process_names() -> tuple[str, ...]:
    """Names of the shipped processes, sorted."""
    return _names("processes")


def machine_names() -> tuple[str, ...]:
    """Names of the shipped machines, sorted."""
    return _names("machines")


@lru_cache(maxsize=32)
def load_process(name: str) -> Process:
    """Read a shipped process profile.

    Raises
    ------
    OrderError
        No profile of that name.
    """
    return Process.model_validate(tomllib.loads(_text("processes", name, "process", process_names())))


@lru_cache(maxsize=32)
def load_machine(name: str) -> Machine:
    """Read a shipped machine profile.

    Raises
    ------
    OrderError
        No profile of that name.
    """
    return Machine.model_validate(tomllib.loads(_text("machines", name, "machine", machine_names())))


def _folder(kind: str) -> Traversable:
    return resources.files("batchone.slicer").joinpath(kind)


def _names(kind: str) -> tuple[str, ...]:
    return tuple(sorted(f.name.removesuffix(".toml") for f in _folder(kind).iterdir() if f.name.endswith(".toml")))


def _text(kind: str, name: str, word: str, known: tuple[str, ...]) -> str:
    if name not in known:
        raise OrderError(f"{word} is {name!r}; known: {', '.join(known)}", hint=f"name one of them as `{word}` in the order")
    return _folder(kind).joinpath(f"{name}.toml").read_text(encoding="utf-8")
