"""What ``batchone inspect`` and ``batchone layers`` print."""

from __future__ import annotations

import dataclasses
import io
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from batchone.pipeline.config import SiteSettings, protocol_at
from batchone.pipeline.disk import write_bytes
from batchone.pipeline.errors import InputError, MachineError, OrderError
from batchone.pipeline.intake.make import SeriesSummary, inspect_study
from batchone.pipeline.intake.protocol import failure
from batchone.pipeline.intake.scan_report import finding_tree, worst_verdict
from batchone.pipeline.intake.series import listed
from batchone.pipeline.limits import Protocol
from batchone.pipeline.values import Finding, Verdict

if TYPE_CHECKING:
    from rich.console import RenderableType

NO_SERIES = "the study holds no series that makes a true volume"
_WORDS: dict[Verdict, str] = {"pass": "good enough", "warn": "good enough, with warnings", "waived": "waived", "fail": "refused"}
_MARKS: dict[Verdict, str] = {"pass": "  ", "warn": "! ", "waived": "! ", "fail": "!!"}
_MIN_WIDTH, _MAX_WIDTH = 80, 140


@dataclass(frozen=True, slots=True)
class Report:
    """The document, its lines for a person, and whether the study can be used."""

    tree: dict[str, Any]
    lines: tuple[str, ...]
    usable: bool


@dataclass(frozen=True, slots=True)
class Judgement:
    """A study judged by one family: by its best series, whose place in the list is given; None where none is readable."""

    verdict: Verdict
    series: int | None
    failed: tuple[Finding, ...]
    warned: tuple[Finding, ...]
    reason: str = ""
    hint: str = ""

    @property
    def ask(self) -> list[str]:
        """What to ask the sender for, or to do, each once."""
        hints = (self.hint, *(finding.hint for finding in (*self.failed, *self.warned)))
        return list(dict.fromkeys(hint for hint in hints if hint))

    @property
    def refusal(self) -> str | None:
        """Which number fails which limit; None when none does."""
        return None if self.verdict != "fail" else self.reason or "; ".join(map(failure, self.failed))


def inspect_for(study: Path, device: str | None, *, settings: SiteSettings | None = None) -> Report:
    """Summarise the series of a study and judge them by the protocol of every family, as it counts at a site.

    Raises
    ------
    InputError
        There is no such device.
    SeriesError
        The study cannot be opened.
    """
    protocols = {name: protocol_at(settings or SiteSettings(), one) for name, one in family_protocols().items()}
    if device is not None and device not in protocols:
        raise InputError(f"device is {device!r}; known devices: {', '.join(sorted(protocols))}", hint="see `batchone devices`")
    series = inspect_study(study)
    judged = {name: judge_study(series, protocol) for name, protocol in protocols.items()}
    usable = any(item.readable for item in series)
    tree: dict[str, Any] = {
        "series": [_series_tree(item, protocols) for item in series],
        "families": {name: _judgement_tree(one) for name, one in judged.items()},
        "usable": usable,
    }
    shown = judged if device is None else {device: judged[device]}
    if device is not None:
        tree["device"] = device
        tree["refusal"] = judged[device].refusal
        usable = tree["usable"] = judged[device].verdict != "fail"
    return Report(tree, _lines(series, shown), usable)


def judge_study(series: Sequence[SeriesSummary], protocol: Protocol) -> Judgement:
    """Judge a study by a family's protocol: by the first series that passes, else by the first that is readable."""
    judged = [(place, item.findings(protocol)) for place, item in enumerate(series) if item.readable]
    refused = next((item.refused for item in series if item.refused), "")
    if refused or not judged:
        found = [item for item in series if item.shape[0]]
        hint = "" if found else next((item.hint for item in series if item.hint), "")
        return Judgement("fail", None, (), (), refused or (found[0].reason if found else NO_SERIES), hint)
    place, findings = next((one for one in judged if worst_verdict(one[1]) != "fail"), judged[0])
    failed, warned = (tuple(one for one in findings if one.verdict == verdict) for verdict in ("fail", "warn"))
    return Judgement(worst_verdict(findings), place, failed, warned)


def family_protocols() -> dict[str, Protocol]:
    """Device family -> imaging protocol, by name."""
    from batchone.design.families import load_families

    return {name: family.limits.protocol for name, family in sorted(load_families().items())}


def _series_tree(item: SeriesSummary, protocols: Mapping[str, Protocol]) -> dict[str, Any]:
    tree = dataclasses.asdict(dataclasses.replace(item, report=(), stated=None))
    del tree["stated"]
    stated = item.stated
    tree["kv"] = stated.kv if stated else None
    tree["body_part"] = stated.body_part if stated else ""
    tree["report"] = [finding_tree(finding) for finding in item.report]
    judged = {name: item.findings(protocol) for name, protocol in protocols.items()} if item.readable else {}
    tree["families"] = {
        name: {"verdict": worst_verdict(findings), "findings": [finding_tree(one) for one in findings]}
        for name, findings in judged.items()
    }
    return tree


def _judgement_tree(one: Judgement) -> dict[str, Any]:
    return {
        "verdict": one.verdict,
        "series": one.series,
        "refusal": one.refusal,
        "warnings": [failure(finding) for finding in one.warned],
        "ask": one.ask,
    }


def _lines(series: Sequence[SeriesSummary], judged: Mapping[str, Judgement]) -> tuple[str, ...]:
    from rich.console import Console

    width = min(max(shutil.get_terminal_size().columns, _MIN_WIDTH), _MAX_WIDTH)
    page = io.StringIO()
    console = Console(file=page, width=width, highlight=False, markup=False, emoji=False)
    console.print(_judgement_table(judged))
    stacks = [item for item in series if item.shape[0]]
    for number, item in enumerate(stacks, 1):
        console.print(f"{number}. {_head(item)}")
        for sentence in item.corrected:
            console.print(f"   corrected: {sentence}")
        if not item.readable:
            console.print(f"   not usable: {item.reason}" + (f"\n   what to do: {item.hint}" if item.hint else ""))
        if item.report:
            console.print(_report_table(item.report))
    if not stacks:
        console.print("no series found")
    others = {item.kind: item.images for item in series if not item.shape[0]}
    if others:
        console.print(f"set aside: {listed(others)}")
    return tuple(line.rstrip() for line in page.getvalue().splitlines())


def _head(item: SeriesSummary) -> str:
    slices, rows, columns = item.shape
    text = f"{item.kind}: {columns}x{rows}x{slices}"
    if item.slice_spacing_mm:
        thick = "not stated" if item.slice_thickness_mm is None else f"{item.slice_thickness_mm:.4g} mm"
        text += f", pixels {item.pixel_mm[0]:.3g}x{item.pixel_mm[1]:.3g} mm, slices every {item.slice_spacing_mm:.4g} mm"
        text += f" (thickness {thick}), kernel {item.kernel or 'not stated'}, {item.transfer_syntax}"
    return text + (f", {item.looked_at} slices looked at" if item.looked_at else "")


def _report_table(report: Sequence[Finding]) -> RenderableType:
    from rich.table import Table

    table = Table(box=None, padding=(0, 1), pad_edge=False, show_header=False)
    for _ in range(4):
        table.add_column(overflow="fold")
    for one in report:
        table.add_row(f"   {_MARKS[one.verdict]}", one.what, f"{one.value:.4g} {one.unit}".strip(), one.limit)
    return table


def _judgement_table(judged: Mapping[str, Judgement]) -> RenderableType:
    from rich.table import Table

    table = Table(title="good enough for", title_justify="left")
    for column in ("device", "verdict", "why", "what to ask for"):
        table.add_column(column, overflow="fold")
    for name, one in judged.items():
        why = one.refusal or "; ".join(failure(finding) for finding in one.warned)
        table.add_row(name, _WORDS[one.verdict], why, "; ".join(one.ask))
    return table


def layer_at(
    folder: Path, height_mm: float, picture: Path | None = None, text: Path | None = None, slices: Path | None = None
) -> dict[str, Any]:
    """Contours and hatches of the layer that holds a height above the plate; where they are named: a PNG file of it, the whole
    file as text, and a 3MF file of plate and layers.

    Parameters
    ----------
    folder
        A job, or a build of many jobs.

    Raises
    ------
    MachineError
        No layers file, or the height is outside the build.
    """
    from batchone.pipeline.build.verify import is_build
    from batchone.pipeline.job.layer_picture import layer_png
    from batchone.slicer.cli_format import read_cli
    from batchone.slicer.cli_header import region_of
    from batchone.slicer.hatch import lengths_mm
    from batchone.slicer.slice_stack import with_slices

    many = is_build(folder)
    place = folder if many else folder / "build"
    path = place / "layers.cli"
    if not path.is_file():
        what = "build folder has no layers.cli" if many else "job folder has no build/layers.cli"
        raise MachineError(f"the {what}", hint="run `batchone verify` on it")
    found = read_cli(path.read_bytes())
    layer = int(np.searchsorted(found.top_mm, height_mm))
    if height_mm <= 0 or layer >= found.layers.count:
        top_mm = float(found.top_mm[-1])
        raise MachineError(
            f"height is {height_mm:g} mm, the build goes from 0 to {top_mm:g} mm", hint="give --at within the build"
        )
    lines_mm = found.hatches.of(layer)
    contents: tuple[tuple[Path | None, Callable[[], bytes]], ...] = (
        (picture, lambda: layer_png(found, layer)),
        (text, found.to_text),
        (slices, lambda: with_slices((place / "plate.3mf").read_bytes(), found)),
    )
    for file, content in contents:
        if file and not file.parent.is_dir():
            raise OrderError(f"{file.parent} is no folder", hint="name a file in a folder that is there")
        if file:
            write_bytes(file, content())
    return {
        "layer": layer + 1,
        "layers": found.layers.count,
        "top_mm": float(found.top_mm[layer]),
        "loops": int(np.count_nonzero(found.outlines.loop_layer == layer)),
        "area_mm2": float(found.outlines.area_mm2()[layer]),
        "hatches": len(lines_mm),
        "hatches_mm": round(float(lengths_mm(lines_mm).sum()), 3),
        "regions": [
            {
                "label": label,
                "contours": len(found.layers.loops(layer, number)),
                "lines": len(found.hatches.of(layer, number)),
                "lines_mm": round(float(lengths_mm(found.hatches.of(layer, number)).sum()), 3),
            }
            for number, label in enumerate(found.labels)
            if region_of(label)
        ],
        "picture": str(picture) if picture else None,
        "text": str(text) if text else None,
        "slices": str(slices) if slices else None,
    }
