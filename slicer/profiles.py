"""Process and machine profiles: the shipped ones, and a site's own, which add to them or take their place by name."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from functools import lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from batchone.pipeline.errors import MachineError, OrderError
from batchone.pipeline.machine import Machine
from batchone.pipeline.process import Process

PROCESSES, MACHINES = "processes", "machines"  # folders of the package, and of a site
_TOLD: Final = 5  # faults of a profile that are told at once; project default
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
        A site's profile is no TOML, or a number in it is not possible or has no source.
    """
    return _shipped_process(name) if site is None else _load(Process, PROCESSES, name, site)


def load_machine(name: str, site: Path | None = None) -> Machine:
    """Read a machine profile, a site's own before a shipped one.

    Raises
    ------
    OrderError
        No profile of that name.
    MachineError
        A site's profile is no TOML, or a number in it is not possible or has no source.
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
        tree = tomllib.loads(files[name].read_text(encoding="utf-8"))
        profile = model.model_validate(tree)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise MachineError(f"{file} cannot be read as TOML: {error}", hint=hint) from error
    except ValidationError as error:
        told = "; ".join(
            ": ".join(filter(None, [_told(one["loc"], one["input"]), one["msg"].removeprefix("Value error, ")]))
            for one in error.errors()[:_TOLD]
        )
        raise MachineError(f"{file}: {told}", hint=hint) from error
    if profile.name != name:
        raise MachineError(f"{file} names itself {profile.name!r}, must be {name!r}", hint=hint)
    if bare := list(_without_source(tree)):
        raise MachineError(
            f"{file}: {len(bare)} numbers have no source, at most 0 may: {', '.join(bare[:_TOLD])}",
            hint="say in the table of sources beside each number where it comes from; `unverified: ...` is an answer",
        )
    return profile


def _told(loc: tuple[int | str, ...], given: object) -> str:
    """The key and its value; the name of a whole table alone."""
    key = ".".join(map(str, loc))
    return key if isinstance(given, dict) or not key else f"{key} is {given!r}"


def _without_source(table: dict[str, Any], within: str = "") -> Iterator[str]:
    """Keys of the numbers of a profile for which its ``sources`` say nothing."""
    sources = table.get("sources", {})
    for key, value in table.items():
        if isinstance(value, dict):
            if key != "sources":
                yield from _without_source(value, f"{within}{key}.")
            continue
        first = value[0] if isinstance(value, list) and value else value
        if isinstance(first, int | float) and not isinstance(first, bool) and not sources.get(key, "").strip():
            yield f"{within}{key} = {value}"
