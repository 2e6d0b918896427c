"""Process and machine profiles: the shipped ones, and a site's own, which add to them or take their place by name."""

from __future__ import annotations

import tomllib
from functools import lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from batchone.pipeline.errors import MachineError, OrderError
from batchone.pipeline.machine import Machine
from batchone.pipeline.process import Process

PROCESSES, MACHINES = "processes", "machines"  # folders of the package, and of a site
ProfileT = TypeVar("ProfileT", Process, Machine)


def process_names(site: Path | None = None) -> tuple[str, ...]:
    """Names of the processes, sorted: shipped, and in ``site/processes``."""
    return tuple(sorted(_files(PROCESSES, site)))


def machine_names(site: Path | None = None) -> tuple[str, ...]:
    """Names of the machines, sorted: shipped, and in ``site/machines``."""
    return tuple(sorted(_files(MACHINES, site)))


def load_process(name: str, site: Path | None = None) -> Process:
    """Read a process profile, a site's own before a shipped one.

    Raises
    ------
    OrderError
        No profile of that name.
    MachineError
        A site's profile is no TOML, or a number in it is not possible.
    """
    return _shipped_process(name) if site is None else _load(Process, PROCESSES, name, site)


def load_machine(name: str, site: Path | None = None) -> Machine:
    """Read a machine profile, a site's own before a shipped one.

    Raises
    ------
    OrderError
        No profile of that name.
    MachineError
        A site's profile is no TOML, or a number in it is not possible.
    """
    return _shipped_machine(name) if site is None else _load(Machine, MACHINES, name, site)


@lru_cache(maxsize=32)
def _shipped_process(name: str) -> Process:
    return _load(Process, PROCESSES, name, None)


@lru_cache(maxsize=32)
def _shipped_machine(name: str) -> Machine:
    return _load(Machine, MACHINES, name, None)


def _files(kind: str, site: Path | None) -> dict[str, Traversable]:
    """Profile by name; those of a site replace shipped ones."""
    found: dict[str, Traversable] = {}
    for folder in (resources.files("batchone.slicer").joinpath(kind), *([site / kind] if site is not None else [])):
        if folder.is_dir():
            found |= {one.name.removesuffix(".toml"): one for one in folder.iterdir() if one.name.endswith(".toml")}
    return found


def _load(model: type[ProfileT], kind: str, name: str, site: Path | None) -> ProfileT:
    files, word = _files(kind, site), "process" if kind == PROCESSES else "machine"
    if name not in files:
        known = ", ".join(sorted(files))
        raise OrderError(f"{word} is {name!r}; known: {known}", hint=f"name one of them as `{word}` in the order")
    file, hint = f"{kind}/{name}.toml", f"mend {kind}/{name}.toml of the site; the shipped profiles show how"
    try:
        profile = model.model_validate(tomllib.loads(files[name].read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise MachineError(f"{file} cannot be read as TOML: {error}", hint=hint) from error
    except ValidationError as error:
        told = "; ".join(
            f"{'.'.join(map(str, one['loc']))} is {one['input']!r}: {one['msg']}" if one["loc"] else one["msg"]
            for one in error.errors()[:5]
        )
        raise MachineError(f"{file}: {told}", hint=hint) from error
    if profile.name != name:
        raise MachineError(f"{file} names itself {profile.name!r}, must be {name!r}", hint=hint)
    return profile
