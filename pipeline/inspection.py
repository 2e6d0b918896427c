"""What ``batchone inspect`` and ``batchone layers`` print."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from batchone.pipeline.errors import BatchoneError, InputError, MachineError
from batchone.pipeline.intake.make import SeriesSummary, inspect_study


@dataclass(frozen=True, slots=True)
class Report:
    """The document, its lines for a person, and whether the study can be used."""

    tree: dict[str, Any]
    lines: tuple[str, ...]
    usable: bool


def inspect_for(study: Path, device: str | None) -> Report:
    """Summarise the series of a study; with a device, judge them by its protocol."""
    series = inspect_study(study)
    trees = [dataclasses.asdict(item) for item in series]
    usable = any(item.readable for item in series)
    lines = [_line(item) for item in series] or ["no series found"]
    tree: dict[str, Any] = {"series": trees, "usable": usable}
    if device is not None:
        tree["device"] = device
        tree["refusal"] = refusal = _refusal(study, device)
        usable = tree["usable"] = refusal is None
        lines.append(f"{device}: " + ("good enough" if refusal is None else f"refused: {refusal}"))
    return Report(tree, tuple(lines), usable)


def _refusal(study: Path, device: str) -> str | None:
    from batchone.design.families import load_families
    from batchone.pipeline.intake.make import admit

    families = load_families()
    if device not in families:
        raise InputError(f"device is {device!r}; known devices: {', '.join(sorted(families))}", hint="see `batchone devices`")
    try:
        admit(study, families[device].limits.protocol)
    except BatchoneError as error:
        return str(error)
    return None


def _line(item: SeriesSummary) -> str:
    text = f"{item.kind}: {item.images} files"
    if any(item.shape):
        slices, rows, columns = item.shape
        text += f", {columns}x{rows}x{slices}, pixels {item.pixel_mm[0]:.3g}x{item.pixel_mm[1]:.3g} mm"
        text += f", slices every {item.slice_spacing_mm:.4g} mm, kernel {item.kernel or 'not stated'}, {item.transfer_syntax}"
    return text + (", readable" if item.readable else f" ({item.reason})")


def layer_at(job: Path, height_mm: float) -> dict[str, Any]:
    """Contours of the layer that holds a height above the plate.

    Raises
    ------
    MachineError
        No layers file, or the height is outside the build.
    """
    from batchone.slicer.cli_format import read_cli

    path = job / "build" / "layers.cli"
    if not path.is_file():
        raise MachineError("the job folder has no build/layers.cli", hint="run `batchone verify` on it")
    found = read_cli(path.read_bytes())
    layer = int(np.searchsorted(found.top_mm, height_mm))
    if height_mm <= 0 or layer >= found.layers.count:
        top_mm = float(found.top_mm[-1])
        raise MachineError(
            f"height is {height_mm:g} mm, the build goes from 0 to {top_mm:g} mm", hint="give --at within the build"
        )
    return {
        "layer": layer + 1,
        "layers": found.layers.count,
        "top_mm": float(found.top_mm[layer]),
        "loops": int(np.count_nonzero(found.layers.loop_layer == layer)),
        "area_mm2": float(found.layers.area_mm2()[layer]),
    }
