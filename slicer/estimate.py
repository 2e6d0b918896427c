"""What the build will take: layers, time, material."""

from __future__ import annotations

import math

from batchone.pipeline.process import Process
from batchone.pipeline.values import Estimate
from batchone.slicer.motion import Motion


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
        What the laser draws for, see :mod:`batchone.slicer.scan_time`; None where no laser does.

    Notes
    -----
    Time = set-up + layers x recoating + scanning; it lies within ``process.time_within`` of that.
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
        seconds_low=seconds * (1.0 - process.time_within),
        seconds_high=seconds * (1.0 + process.time_within),
        material_g=(volume_mm3 + support_mm3) * process.density_g_per_mm3,
        part_volume_mm3=volume_mm3,
        basis=basis,
    )


def toolpath_estimate(
    process: Process, motion: Motion, *, layers: int, volume_mm3: float, filament_diameter_mm: float
) -> Estimate:
    """Estimate time and material of a toolpath: time = set-up + moves, material = all filament, supports included.

    Parameters
    ----------
    process
        Set-up time and density.
    motion
        What the moves take.
    layers
        Number of layers.
    volume_mm3
        Solid volume of all parts, mm3.
    filament_diameter_mm
        Of the filament.
    """
    seconds = process.setup_s + motion.seconds
    filament_mm3 = motion.filament_mm * 0.25 * math.pi * filament_diameter_mm**2
    return Estimate(
        layers=layers,
        height_mm=layers * process.layer_mm,
        seconds=seconds,
        seconds_low=seconds * (1.0 - process.time_within),
        seconds_high=seconds * (1.0 + process.time_within),
        material_g=filament_mm3 * process.density_g_per_mm3,
        part_volume_mm3=volume_mm3,
        basis=f"set-up {process.setup_s:g} s + {motion.seconds:.0f} s of moves with acceleration and jerk, supports included; "
        f"{motion.filament_mm:.0f} mm of filament; without homing and post-processing",
    )
