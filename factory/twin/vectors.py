"""What a laser does in each layer, executed stroke by stroke from the layer file that was written.

A stroke is a contour, drawn from its first point round to it again, or a line. Contours of a layer come before its lines, both in
the order of the file. A label ``<body> <region>`` is drawn at the speed of its region; the outline of a body is drawn, at the
speed of contours, where nothing else of it is.

====================  ===========================================================================================
a stroke shines for   its length / its speed
its delays            ``line_s``; of a contour also ``corner_s`` (1 - cos turn) / 2 at each corner but the first
a jump of length d    the mirrors rest at both ends: they speed up at a and slow down at a, and reach at most v:
                      2 t + (d - a t^2) / v with t = min(v / a, sqrt(d / a)); and ``jump_s`` to settle
====================  ===========================================================================================

The first stroke of a layer is not jumped to: the mirrors get there while the machine recoats.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from batchone.pipeline.errors import MachineError
from batchone.pipeline.process import ScanStrategy
from batchone.pipeline.values import FloatArray
from batchone.slicer.cli_format import CliFile, read_cli
from batchone.slicer.cli_header import region_of

_PLACES = ("build/layers.cli", "layers.cli")  # of a job folder, of a build folder


@dataclass(frozen=True, slots=True, eq=False)
class Strokes:
    """Of each layer, (layers,) each.

    Attributes
    ----------
    laser_on_s, delay_s, jump_s
        Seconds float64 that the laser shines, waits within strokes and between them, and that the mirrors jump.
    drawn_mm, jumped_mm
        Lengths.
    count
        int64: strokes.
    """

    laser_on_s: FloatArray
    delay_s: FloatArray
    jump_s: FloatArray
    drawn_mm: FloatArray
    jumped_mm: FloatArray
    count: npt.NDArray[np.int64]

    @property
    def seconds(self) -> FloatArray:
        """(layers,) of drawing and jumping together."""
        return self.laser_on_s + self.delay_s + self.jump_s


def layer_file(folder: Path) -> CliFile:
    """The layers of a job folder or of a build folder.

    Raises
    ------
    MachineError
        There are none, or the file is damaged.
    """
    for place in _PLACES:
        if (folder / place).is_file():
            return read_cli((folder / place).read_bytes())
    raise MachineError(
        f"{folder.name} holds neither {' nor '.join(_PLACES)}", hint="give a job folder or a build folder of layers"
    )


def speeds_mm_per_s(labels: tuple[str, ...], scan: ScanStrategy) -> FloatArray:
    """(labels,) at which what has the label is drawn; 0 for outlines that are not."""
    regions = [region_of(label) for label in labels]
    filled = {label.removesuffix(f" {region}") for label, region in zip(labels, regions, strict=True) if region}
    drawn = [scan.mm_per_s(region or "contour") if region or label not in filled else 0.0
             for label, region in zip(labels, regions, strict=True)]  # fmt: skip
    return np.array(drawn, dtype=np.float64)


def execute(file: CliFile, scan: ScanStrategy) -> Strokes:
    """Execute all layers of a file."""
    speed, layers, hatches = speeds_mm_per_s(file.labels, scan), file.layers, file.hatches
    loops = np.flatnonzero(speed[layers.loop_part] > 0.0)
    length, corners = _around(layers.points_mm, layers.loop_start)
    begins = layers.points_mm[layers.loop_start[:-1][loops]]
    sizes = np.diff(hatches.start)
    lines = hatches.vectors_mm
    layer = np.concatenate([layers.loop_layer[loops], np.repeat(hatches.layer, sizes)])
    mm = np.concatenate([length[loops], np.hypot(lines[:, 2] - lines[:, 0], lines[:, 3] - lines[:, 1])])
    on_s = mm / np.concatenate([speed[layers.loop_part[loops]], np.repeat(speed[hatches.part], sizes)])
    delay_s = np.concatenate([scan.line_s + scan.corner_s * corners[loops], np.full(len(lines), scan.line_s)])
    order = np.argsort(layer, kind="stable")  # contours of a layer first, then its lines, as they stand
    layer, mm, on_s, delay_s = layer[order], mm[order], on_s[order], delay_s[order]
    start = np.concatenate([begins, lines[:, :2]])[order]
    end = np.concatenate([begins, lines[:, 2:]])[order]  # a contour ends where it begins
    jump_mm = np.where(np.diff(layer) == 0, np.hypot(*(start[1:] - end[:-1]).T), 0.0)
    jump_s = np.where(np.diff(layer) == 0, jumps_s(jump_mm, scan), 0.0)
    each = lambda of, weights: np.bincount(of, weights=weights, minlength=layers.count).astype(np.float64)  # noqa: E731
    return Strokes(
        each(layer, on_s), each(layer, delay_s), each(layer[1:], jump_s), each(layer, mm), each(layer[1:], jump_mm),
        np.bincount(layer, minlength=layers.count).astype(np.int64),
    )  # fmt: skip


def jumps_s(length_mm: FloatArray, scan: ScanStrategy) -> FloatArray:
    """(n,) seconds of jumps, settling included."""
    ramp_s = np.minimum(scan.jump_mm_per_s / scan.jump_mm_per_s2, np.sqrt(length_mm / scan.jump_mm_per_s2))
    cruise_mm = np.maximum(length_mm - scan.jump_mm_per_s2 * ramp_s**2, 0.0)
    seconds: FloatArray = 2.0 * ramp_s + cruise_mm / scan.jump_mm_per_s + scan.jump_s
    return seconds


def _around(points_mm: FloatArray, start: npt.NDArray[np.int64]) -> tuple[FloatArray, FloatArray]:
    """(loops,) lengths of closed contours, and the sum of (1 - cos turn) / 2 at their corners but the first."""
    if len(start) < 2:
        return np.zeros(0), np.zeros(0)
    follower = np.arange(1, len(points_mm) + 1)
    follower[start[1:] - 1] = start[:-1]
    edge = points_mm[follower] - points_mm  # from each point to the next
    mm = np.hypot(edge[:, 0], edge[:, 1])
    cosine = np.einsum("ij,ij->i", edge, edge[follower]) / np.maximum(mm * mm[follower], 1e-300)  # at the edge's end
    turn = 0.5 * (1.0 - cosine)
    turn[start[1:] - 1] = 0.0  # the last edge ends at the first corner
    return np.add.reduceat(mm, start[:-1]), np.add.reduceat(turn, start[:-1])
