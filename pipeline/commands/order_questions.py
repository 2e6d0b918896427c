"""What ``batchone order new`` asks on a terminal; an answer that will not do is asked for again."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from batchone.pipeline.errors import BatchoneError, OrderError

if TYPE_CHECKING:
    from batchone.pipeline.commands.parameter_table import Parameter

PROCESS, MACHINE = "ti64-lpbf", "sim-01"  # taken where the order names none

SIDES = ("left", "right", "midline")


def ask(
    given: dict[str, Any],
    tables: dict[str, dict[str, Any]],
    parameters: dict[str, Any],
    table: tuple[Parameter, ...],
    device: str,
    site: Path,
) -> None:
    """Ask for whatever was not given, and put the answers beside what was."""
    from batchone.slicer.profiles import load_machine, load_process, machine_names, process_names

    needed: dict[str, tuple[str, Callable[[str], object]]] = {
        "case": ("Case id (a code, never a name)", _checked_case),
        "side": (f"Side of the patient ({', '.join(SIDES)})", _checked_side),
        "due": ("Due time with zone (as 2026-11-24T08:00:00Z)", due_time),
    }
    for key, (question, check) in needed.items():
        if given[key] is None:
            given[key] = _asked(question, None, check)
    if given["process"] is None:
        given["process"] = _asked(f"Process ({', '.join(process_names(site))})", PROCESS, partial(load_process, site=site))
    if given["machine"] is None:
        given["machine"] = _asked(f"Machine ({', '.join(machine_names(site))})", MACHINE, partial(load_machine, site=site))
    prescription, target, instruments = tables["prescription"], tables["target"], tables["instruments"]
    if prescription["prescriber"] is None:
        prescription["prescriber"] = _asked("Prescriber's code (empty: none)", "") or None
    if prescription["prescriber"] and prescription["characteristics"] is None:
        prescription["characteristics"] = _asked("Prescription in words (empty: none)", "") or None
    if target["bones"] is None:
        words = _asked("Bones or levels, separated by commas (empty: from the scan)", "")
        target["bones"] = [word.strip() for word in words.split(",") if word.strip()] or None
    if target["bones"] and target["level_confirmed_by"] is None:
        target["level_confirmed_by"] = _asked("Level confirmed by (code; empty: nobody)", "") or None
    tables["plan"] = tables["plan"] or _asked_plan(device)
    if instruments["drill_mm"] is None and "drill" not in instruments:
        text = _asked("Drill of the theatre, mm (empty: not stated)", "", _checked_drill)
        instruments["drill_mm"] = float(text) if text else None
    while text := _asked("Change a parameter, NAME=VALUE (empty: none)", "", lambda text: _checked_setting(text, table, device)):
        parameters.update(_checked_setting(text, table, device))


def _asked_plan(device: str) -> dict[str, Any]:
    from batchone.pipeline.markups.order_file import name_and_file, plan_tables

    def read(text: str) -> dict[str, Any]:
        return {**plan_tables([name_and_file(text)], device)} if text else {}

    return read(_asked("Plan drawn in 3D Slicer, .mrk.json (empty: none)", "", read))


def _asked(question: str, default: str | None, check: Callable[[str], object] = lambda text: None) -> str:
    while True:
        text = str(typer.prompt(question, default=default, err=True, show_default=bool(default))).strip()
        try:
            check(text)
        except BatchoneError as error:
            typer.echo(f"  {error}; {error.hint}", err=True)
        else:
            return text


def _checked_case(text: str) -> None:
    from pydantic import TypeAdapter, ValidationError

    from batchone.pipeline.order import CaseId

    try:
        TypeAdapter(CaseId).validate_python(text)
    except ValidationError:
        raise OrderError("a case id is 1 to 64 letters, digits, dots, dashes", hint="it starts with a letter or digit") from None


def _checked_side(text: str) -> None:
    if text not in SIDES:
        raise OrderError(f"side is {text!r}, must be one of {', '.join(SIDES)}", hint="the patient's side, not the viewer's")


def _checked_drill(text: str) -> None:
    from pydantic import ValidationError

    from batchone.pipeline.order import Instruments

    try:
        Instruments(drill_mm=float(text) if text else None)
    except (ValidationError, ValueError):
        raise OrderError(f"drill is {text!r}, must be above 0.3 to 12 mm", hint="or leave it empty") from None


def _checked_setting(text: str, table: tuple[Parameter, ...], device: str) -> dict[str, Any]:
    from batchone.pipeline.commands.parameter_table import faults
    from batchone.pipeline.order import parse_settings

    setting = parse_settings([text]) if text else {}
    if found := faults(table, setting, device):
        raise OrderError("; ".join(found), hint="give another value")
    return setting


def due_time(text: str) -> Any:
    """The due time of an order.

    Raises
    ------
    OrderError
        Not ISO 8601, or without a zone.
    """
    import datetime as dt

    hint = "for example 2026-11-24T08:00:00Z"
    try:
        time = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise OrderError(f"due is {text!r}, must be ISO 8601 with a zone", hint=hint) from error
    if time.tzinfo is None:
        raise OrderError(f"due is {text!r} without a zone, must be ISO 8601 with a zone", hint=hint)
    return time
