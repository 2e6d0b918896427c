"""What the build will take: layers, time, material."""

from __future__ import annotations

import numpy as np

from batchone.pipeline.process import Process, ScanStrategy
from batchone.pipeline.values import Estimate
from batchone.slicer.hatch import Hatches, lengths_mm
from batchone.slicer.layers import Layers


def estimate(process: Process, *, layers: int, volume_mm3: float, support_mm3: float = 0.0, scanned_s: float | None) -> Estimate:
    """Estimate time and material of one plate.

    Parameters
    ----------
    process
        Rates of the process.
    layers
        Number of layers.
    volume_mm3
        Solid volume of all parts, mm3.
    support_mm3
        Volume of all supports, mm3.
    scanned_s
        What the laser draws for, see :func:`scanned_s`; None where no laser does.

    Notes
    -----
    Time = set-up + layers x recoating + scanning.
    """
    seconds = process.setup_s + layers * process.recoat_s
    basis = f"set-up {process.setup_s:g} s + {layers} layers x {process.recoat_s:g} s"
    if scanned_s is not None:
        seconds += scanned_s
        basis += f" + {scanned_s:.0f} s of lines and jumps of the laser"
    losses = "resin losses" if process.kind == "vat" else "powder losses, cooling"
    basis += f"; parts and {support_mm3:.0f} mm3 of supports, without {losses} and post-processing"
    return Estimate(
        layers=layers,
        height_mm=layers * process.layer_mm,
        seconds=seconds,
        material_g=(volume_mm3 + support_mm3) * process.density_g_per_mm3,
        part_volume_mm3=volume_mm3,
        basis=basis,
    )


def scanned_s(layers: Layers, hatches: Hatches, scan: ScanStrategy) -> float:
    """Seconds that a laser draws contours and lines and jumps between them, layer by layer in the order of the file.

    Lines and contours at their own speed; a jump at its speed and with its delay, one to each contour and each line.
    """
    along = np.roll(layers.points_mm, -1, axis=0) - layers.points_mm
    last = layers.loop_start[1:] - 1
    along[last] = layers.points_mm[layers.loop_start[:-1]] - layers.points_mm[last]  # closed
    contours_s = float(np.hypot(along[:, 0], along[:, 1]).sum()) / scan.contour_mm_per_s
    lines_s = float(lengths_mm(hatches.vectors_mm).sum()) / scan.hatch_mm_per_s
    begins = layers.points_mm[layers.loop_start[:-1]]
    stops = np.concatenate([np.column_stack([begins, begins]), hatches.vectors_mm])
    line_layer = np.repeat(hatches.layer, np.diff(hatches.start))
    order = np.argsort(np.concatenate([layers.loop_layer, line_layer]), kind="stable")  # contours of a layer before its lines
    from_mm, to_mm = stops[order][:-1, 2:], stops[order][1:, :2]
    same = np.diff(np.concatenate([layers.loop_layer, line_layer])[order]) == 0
    jumped_mm = float(np.hypot(*(to_mm - from_mm)[same].T).sum())
    return contours_s + lines_s + jumped_mm / scan.jump_mm_per_s + len(stops) * scan.jump_s
