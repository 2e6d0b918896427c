"""``batchone order new``: ask for, or take as flags, what an order needs; show limits and sources; validate; write."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from batchone.pipeline.commands.order_questions import MACHINE, PROCESS, ask, due_time
from batchone.pipeline.errors import InputError, MachineError, OrderError

if TYPE_CHECKING:
    from batchone.design.family import Family
    from batchone.pipeline.commands.parameter_table import Parameter
    from batchone.pipeline.inspection import Report
    from batchone.pipeline.order import Order

_NEEDED = {"case": "--case", "side": "--side", "due": "--due"}  # what an order cannot be without, and its flag


def order_new(
    device: Annotated[str, typer.Argument(help="Device family, see `batchone devices`.")],
    case: Annotated[str | None, typer.Option("--case", help="Case id: a code, never a name.")] = None,
    side: Annotated[str | None, typer.Option("--side", help="left, right or midline.")] = None,
    due: Annotated[str | None, typer.Option("--due", help="Due time, ISO 8601 with zone.")] = None,
    process: Annotated[str | None, typer.Option("--process", help=f"Process; default {PROCESS}.")] = None,
    machine: Annotated[str | None, typer.Option("--machine", help=f"Machine; default {MACHINE}.")] = None,
    prescriber: Annotated[str | None, typer.Option("--prescriber", help="Code of the prescriber.")] = None,
    characteristics: Annotated[str | None, typer.Option("--characteristics", help="What is prescribed, in words.")] = None,
    bones: Annotated[list[str] | None, typer.Option("--bone", help="Bone or level that is meant; may be repeated.")] = None,
    level_confirmed_by: Annotated[
        str | None, typer.Option("--level-confirmed-by", help="Code of who confirmed the level.")
    ] = None,
    markups: Annotated[
        list[str] | None, typer.Option("--markups", help="[NAME=]FILE: a plan drawn in 3D Slicer; may be repeated.")
    ] = None,
    drill_mm: Annotated[float | None, typer.Option("--drill-mm", help="Diameter of the theatre's drill, mm.")] = None,
    named: Annotated[
        list[str] | None, typer.Option("--instrument", help="KEY=NAME of [instruments], as drill=drill-3.2; may be repeated.")
    ] = None,
    changes: Annotated[list[str] | None, typer.Option("--set", help="PARAMETER=VALUE; may be repeated.")] = None,
    study: Annotated[
        Path | None, typer.Option("--study", help="Show what is in this study; refuse one that will not do.")
    ] = None,
    site: Annotated[
        Path | None,
        typer.Option("--site", help="Whose settings and profiles count; default $BATCHONE_SITE, else ./batchone-site."),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Write the order here; default: stdout.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an order that is there.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, all else on stderr.")] = False,
) -> None:
    """Write a valid order; what is not given as a flag is asked for on a terminal."""
    from batchone.design.families import load_families
    from batchone.pipeline.commands.parameter_table import faults, parameters_of_family
    from batchone.pipeline.markups.order_file import name_and_file, plan_tables, require_order_size
    from batchone.pipeline.order import parse_settings

    families = load_families()
    if device not in families:
        raise OrderError(f"device is {device!r}; known devices: {', '.join(sorted(families))}", hint="see `batchone devices`")
    _refuse_overwriting(out, force=force)
    family, terminal = families[device], sys.stdin.isatty() and sys.stderr.isatty()
    table = parameters_of_family(family.parameters)
    given: dict[str, Any] = {"device": device, "case": case, "side": side, "due": due, "process": process, "machine": machine}
    _refuse_missing(given, terminal=terminal)
    parameters = parse_settings(changes or [])
    if found := faults(table, parameters, device):
        raise OrderError("order: " + "; ".join(found), hint=f"correct --set; `batchone devices {device}` lists all parameters")
    report = None if study is None else _suitable_study(study, device, _site(site), show=not as_json)
    if not as_json:
        _show_parameters(family, table, parameters)
    tables: dict[str, dict[str, Any]] = {
        "prescription": {"prescriber": prescriber, "characteristics": characteristics},
        "target": {"bones": bones or None, "level_confirmed_by": level_confirmed_by},
        "plan": {**plan_tables([name_and_file(setting) for setting in markups or ()], device)},
        "instruments": {"drill_mm": drill_mm} | parse_settings(named or []),
    }
    if terminal:
        ask(given, tables, parameters, table, device, _site(site))
    order = validated_order(given, tables, parameters, family, _site(site))
    require_order_size(order)
    text = text_of(order, family)
    if out is not None:
        _write(out, text, order, family, force=force)
    _tell(order, text, table, report, out, as_json=as_json)


def _refuse_missing(given: dict[str, Any], *, terminal: bool) -> None:
    missing = [flag for key, flag in _NEEDED.items() if given[key] is None]
    if missing and not terminal:
        raise OrderError(
            f"the order lacks {', '.join(missing)} and there is no terminal to ask on",
            hint=f"give {' '.join(f'{flag} ...' for flag in missing)}",
        )


def _refuse_overwriting(out: Path | None, *, force: bool) -> None:
    if out is not None and out.exists() and not force:
        raise OrderError("there is a file of that name already", hint="give another --out, or --force to overwrite it")


def _site(site: Path | None) -> Path:
    return site or Path(os.environ.get("BATCHONE_SITE", "batchone-site"))


def _suitable_study(study: Path, device: str, site: Path, *, show: bool) -> Report:
    """What is in the study; refused when no series in it is good enough for the device by the site's settings."""
    from batchone.pipeline.config import read_site_settings
    from batchone.pipeline.inspection import inspect_for

    report = inspect_for(study, device, settings=read_site_settings(site))
    if show:
        typer.echo("\n".join(("Study:", *(f"  {line}" for line in report.lines))), err=True)
    if not report.usable:
        reason = report.tree.get("refusal") or "no series in it can be read"
        ask = report.tree["families"][device]["ask"] if device in report.tree["families"] else []
        raise InputError(
            f"the study is not good enough for {device}: {reason}",
            hint="; ".join(ask) or "ask the sender for a series that meets the protocol",
        )
    return report


def _show_parameters(family: Family, table: tuple[Parameter, ...], given: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = Table(title=f"{family.title}: parameters", title_justify="left")
    for heading in ("parameter", "value", "unit", "default", "limits", "what", "source"):
        shown.add_column(heading, overflow="fold")
    for one in table:
        value = given.get(one.name, one.default)
        shown.add_row(one.name, str(value), one.unit, str(one.default), one.limits, one.description, one.source)
    console = Console(stderr=True)
    (console if console.is_terminal else Console(stderr=True, width=160)).print(shown)


def validated_order(
    given: dict[str, Any], tables: dict[str, dict[str, Any]], parameters: dict[str, Any], family: Family, site: Path
) -> Order:
    """The order of what was given, checked against its family, process and machine.

    Parameters
    ----------
    given
        ``device``, ``case``, ``side``, ``due`` (ISO 8601), ``process`` and ``machine``; None of the last two is the default.
    tables
        ``prescription``, ``target``, ``plan`` and ``instruments`` of the order; what is None is left out.

    Raises
    ------
    OrderError
        What is wrong with it, all of it.
    """
    from batchone.pipeline.order import parse_order
    from batchone.slicer.profiles import load_machine, load_process

    data = {
        **given,
        "due": due_time(given["due"]),
        "process": given["process"] or PROCESS,
        "machine": given["machine"] or MACHINE,
    }
    for name, found in tables.items():
        if kept := {key: value for key, value in found.items() if value is not None}:
            data[name] = kept
    data["parameters"] = parameters
    process, machine = load_process(data["process"], site), load_machine(data["machine"], site)
    if process.name not in machine.processes:
        raise OrderError(
            f"machine {machine.name} does not run process {process.name}; it runs {', '.join(machine.processes)}",
            hint="give another --machine or --process",
        )
    return parse_order(data, {family.name: family.parameters})


def text_of(order: Order, family: Family) -> str:
    """An order as TOML, read back."""
    import tomllib

    from batchone.pipeline.order import order_text, parse_order

    text = order_text(order)
    if parse_order(tomllib.loads(text), {family.name: family.parameters}) != order:
        raise AssertionError("the order's text does not read back as the order")
    return text


def _write(out: Path, text: str, order: Order, family: Family, *, force: bool) -> None:
    from batchone.pipeline.order import read_order

    try:
        with out.open("w" if force else "x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        _refuse_overwriting(out, force=False)
        raise
    except OSError as error:
        raise MachineError(f"the order cannot be written: {error.strerror}", hint="check the path given with --out") from error
    if read_order(out, {family.name: family.parameters}) != order:
        raise MachineError("the written order does not read back as it was", hint="check the disk, then write it again")


def _tell(
    order: Order, text: str, table: tuple[Parameter, ...], report: Report | None, out: Path | None, *, as_json: bool
) -> None:
    import dataclasses
    import json

    if as_json:
        tree = {
            "order": order.model_dump(mode="json"),
            "text": text,
            "file": None if out is None else str(out),
            "parameters": [dataclasses.asdict(one) for one in table],
            "study": None if report is None else report.tree,
        }
        typer.echo(json.dumps(tree, indent=1, ensure_ascii=False))
    elif out is None:
        typer.echo(text, nl=False)
    else:
        typer.echo(f"Order written: {out}")
