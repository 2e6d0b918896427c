"""A case as its folder tells it, read once: records of its stages, events, head of its order, estimate of its print."""

from __future__ import annotations

import datetime as dt
import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchone.pipeline.clock.history import About
from batchone.pipeline.clock.legs import BEFORE_RELEASE, PACKAGE, REVIEW, SLICE

ENDINGS = {"cancel": "cancelled", "hand-over": "handed-over"}
"""The decisions that end a case, and its state then."""

_JOB = "job"  # folder of the last stage, whose name is package
_DECISIONS = "decisions"
_BEFORE_1970 = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@dataclass(frozen=True, slots=True)
class Event:
    """One line of ``events.jsonl``; ``when`` in UTC, None where no time is given that can be."""

    who: str
    what: str
    when: dt.datetime | None
    meaning: str = ""


@dataclass(frozen=True, slots=True)
class OrderHead:
    """What the clock wants to know of an order; ``due`` in UTC."""

    about: About
    due: dt.datetime


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a sliced build is estimated to take, in s."""

    seconds: float
    low_s: float
    high_s: float


@dataclass(frozen=True, slots=True)
class CaseFiles:
    """What lies in a case folder. ``records``: ``stage.json`` by stage name, without an approval that was withdrawn.

    ``ended``: what a person's decision made of the case, and why; None where nobody ended it.
    """

    case: str
    folder: Path
    records: Mapping[str, Mapping[str, Any]]
    events: tuple[Event, ...]
    order: OrderHead | None
    estimate: Estimate | None
    ended: tuple[str, str] | None = None


class CaseReader:
    """Reads case folders, each again only after it has changed: what changes a case renames something in it, or is an event."""

    def __init__(self) -> None:
        self._known: dict[Path, tuple[tuple[int, ...], CaseFiles]] = {}

    def read(self, folder: Path) -> CaseFiles:
        """As :func:`read_case`."""
        mark = _mark(folder)
        known = self._known.get(folder)
        if known is None or known[0] != mark:
            known = self._known[folder] = mark, read_case(folder)
        return known[1]


def _mark(folder: Path) -> tuple[int, ...]:
    own = folder.stat()
    try:
        events = (folder / "events.jsonl").stat()
    except FileNotFoundError:
        return (own.st_mtime_ns,)
    return own.st_mtime_ns, events.st_mtime_ns, events.st_size


def read_case(folder: Path) -> CaseFiles:
    """Read a case folder; what is not there, or is half there, counts as absent."""
    there = {entry.name for entry in os.scandir(folder)}
    records = {
        stage: record
        for stage in BEFORE_RELEASE
        if (_JOB if stage == PACKAGE else stage) in there
        and (record := read_tree(folder / (_JOB if stage == PACKAGE else stage) / "stage.json")) is not None
    }
    decisions = _decisions(folder) if _DECISIONS in there else ()
    if REVIEW in records and records[REVIEW].get("value_digest") in {one.get("approval") for one in decisions}:
        del records[REVIEW]
    estimate = _estimate(read_tree(folder / SLICE / "value.json")) if SLICE in records else None
    ended = next(((ENDINGS[one["what"]], str(one.get("reason"))) for one in decisions if str(one.get("what")) in ENDINGS), None)
    return CaseFiles(folder.name, folder, records, _events(folder), _order(folder / "order.toml"), estimate, ended)


def _decisions(folder: Path) -> tuple[dict[str, Any], ...]:
    return tuple(tree for path in sorted((folder / _DECISIONS).glob("[0-9]*.json")) if (tree := read_tree(path)) is not None)


def read_tree(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None where there is none that can be read."""
    try:
        tree = json.loads(path.read_bytes().decode())
    except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError, UnicodeDecodeError):
        return None
    return tree if isinstance(tree, dict) else None


def _events(folder: Path) -> tuple[Event, ...]:
    try:
        lines = (folder / "events.jsonl").read_bytes().splitlines()
    except FileNotFoundError:
        return ()
    found = []
    for line in lines:
        try:
            tree = json.loads(line.decode())
        except (json.JSONDecodeError, UnicodeDecodeError):
            continue  # torn by a crash: the next writer cuts and records it
        if isinstance(tree, dict):
            who, what, meaning = (str(tree.get(key, "")) for key in ("who", "what", "meaning"))
            found.append(Event(who, what, _time(tree.get("when")), meaning))
    return tuple(found)


def _time(text: Any) -> dt.datetime | None:
    try:
        when = dt.datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return None if when.tzinfo is None or when < _BEFORE_1970 else when.astimezone(dt.UTC)


def _order(path: Path) -> OrderHead | None:
    """Of an order the keys before its first table: a plan of thousands of points is not looked at."""
    try:
        text = path.read_text(encoding="utf-8")
        tree = tomllib.loads(text.partition("\n[")[0])
    except (FileNotFoundError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return None
    device, process, machine, due = (tree.get(key) for key in ("device", "process", "machine", "due"))
    if not isinstance(due, dt.datetime) or due.tzinfo is None:
        return None
    return OrderHead(About(str(device), str(process), str(machine)), due.astimezone(dt.UTC))


def _estimate(tree: Mapping[str, Any] | None) -> Estimate | None:
    found = (tree or {}).get("estimate")
    if not isinstance(found, dict):
        return None
    try:
        return Estimate(float(found["seconds"]), float(found["seconds_low"]), float(found["seconds_high"]))
    except (KeyError, TypeError, ValueError):
        return None
