"""What the build will take: layers, time, material."""

from __future__ import annotations

from batchone.pipeline.process import Process
from batchone.pipeline.values import Estimate


def estimate(process: Process, *, layers: int, volume_mm3: float) -> Estimate:
    """Estimate time and material of one plate.

    Parameters
    ----------
    process
        Rates of the process.
    layers
        Number of layers.
    volume_mm3
        Solid volume of all parts, mm3.

    Notes
    -----
    Time = set-up + layers x recoating + volume / exposure rate, the form used for powder-bed scheduling by Kucukkoc 2019
    (Computers & Operations Research); without a rate, as for a mask that cures a layer at once, the last term is left out.
    Supports are not in it.
    """
    seconds = process.setup_s + layers * process.recoat_s
    basis = f"set-up {process.setup_s:g} s + {layers} layers x {process.recoat_s:g} s"
    if process.volume_rate_mm3_per_s is not None:
        seconds += volume_mm3 / process.volume_rate_mm3_per_s
        basis += f" + {volume_mm3:.0f} mm3 / {process.volume_rate_mm3_per_s:g} mm3/s"
    losses = "resin losses" if process.kind == "vat" else "powder losses, cooling"
    basis += f"; parts only, without supports, {losses} and post-processing"
    return Estimate(
        layers=layers,
        height_mm=layers * process.layer_mm,
        seconds=seconds,
        material_g=volume_mm3 * process.density_g_per_mm3,
        part_volume_mm3=volume_mm3,
        basis=basis,
    )
