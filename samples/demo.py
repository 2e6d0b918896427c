"""A sample study and an order for it, for each device family that can be shown on a head."""

from __future__ import annotations

from batchone.pipeline.errors import OrderError
from batchone.samples.head import Defect, Phantom, head_phantom

DEFECT = Defect(azimuth_deg=80.0, elevation_deg=32.0, diameter_mm=80.0, edge_angle_deg=10.0)

_CRANIAL_ORDER = """\
case = "demo-0001"
device = "cranial-implant"
side = "left"
process = "ti64-lpbf"
machine = "sim-01"
due = 2026-11-24T08:00:00Z

[prescription]
prescriber = "code-17"
characteristics = "left parietal defect after decompression; flush with the surrounding bone"
"""

_MODEL_ORDER = """\
case = "demo-0001"
device = "anatomical-model"
side = "midline"
process = "pa12-sls"
machine = "sim-01"
due = 2026-11-24T08:00:00Z

[prescription]
prescriber = "code-17"
characteristics = "skull for planning"

[target]
bones = ["skull"]
"""

_SAMPLES: dict[str, tuple[str, Defect | None]] = {
    "cranial-implant": (_CRANIAL_ORDER, DEFECT),
    "anatomical-model": (_MODEL_ORDER, None),
}
DEVICES = tuple(sorted(_SAMPLES))


def demo_scan(device: str, *, seed: int = 1) -> tuple[str, Phantom]:
    """The text of an order (TOML) for a device family, and the phantom head it is for.

    Raises
    ------
    OrderError
        There is no sample for that device.
    """
    if device not in _SAMPLES:
        raise OrderError(f"no sample for device {device!r}; samples: {', '.join(DEVICES)}", hint="choose one of them")
    text, defect = _SAMPLES[device]
    return text, head_phantom(seed=seed, defect=defect)
