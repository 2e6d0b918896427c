"""A sample study and an order for it, for each device family that can be shown on a phantom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from batchone.pipeline.errors import OrderError
from batchone.pipeline.values import FloatArray, HuArray
from batchone.samples.bone_ct import Scanner
from batchone.samples.flesh import in_flesh
from batchone.samples.head import Defect, head_phantom
from batchone.samples.long_bone import bone_surface, long_bone
from batchone.samples.spine import spine_scene

DEFECT = Defect(azimuth_deg=80.0, elevation_deg=32.0, diameter_mm=80.0, edge_angle_deg=10.0)
SPINE_SCANNER = Scanner((0.75, 0.5, 0.5), fwhm_mm=1.0)
BONE_MM = 330.0  # mm, length of the sample's tibia: an adult's is 300 to 400
BONE_SPACING_MM = (0.7, 0.5, 0.5)

_ORDER = """\
case = "demo-0001"
device = "{device}"
side = "{side}"
process = "{process}"
machine = "sim-01"
due = 2026-11-24T08:00:00Z

[prescription]
prescriber = "code-17"
characteristics = "{characteristics}"
"""
_LEVEL = """
[target]
bones = ["L3"]
levels = {vertebra-3 = "L3"}
counted = 5
level_confirmed_by = "code-17"
"""
_TIBIA = """
[target]
bones = ["tibia"]
"""


class Scanned(Protocol):
    """A scan: ``hu`` (slices, rows, columns) int16, ``affine`` (column, row, slice) -> LPS mm."""

    @property
    def hu(self) -> HuArray: ...  # noqa: D102

    @property
    def affine(self) -> FloatArray: ...  # noqa: D102


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """The text of an order (TOML), the scan that it is for, and the body part that the scanner states."""

    order: str
    scan: Scanned
    body_part: str


def _order(device: str, side: str, process: str, characteristics: str, more: str = "") -> str:
    return _ORDER.format(device=device, side=side, process=process, characteristics=characteristics) + more


def _implant(seed: int) -> Sample:
    words = "left parietal defect after decompression; flush with the surrounding bone"
    text = _order("cranial-implant", "left", "ti64-lpbf", words)
    return Sample(text, head_phantom(seed=seed, defect=DEFECT), "HEAD")


def _model(seed: int) -> Sample:
    text = _order("anatomical-model", "midline", "pa12-sls", "skull for planning", '\n[target]\nbones = ["skull"]\n')
    return Sample(text, head_phantom(seed=seed), "HEAD")


def _pedicles(seed: int) -> Sample:
    text = _order("pedicle-guide", "midline", "guide-resin", "screws in L3 on both sides", _LEVEL)
    return Sample(text, in_flesh(spine_scene().scanned(seed=seed, scanner=SPINE_SCANNER), seed=seed), "LSPINE")


def _tibia(seed: int) -> Sample:
    words = "opening wedge of 8 degrees in the left tibia, below the plateau from the medial side"
    text = _order("osteotomy-guide", "left", "guide-resin", words, _TIBIA)
    return Sample(text, long_bone(bone_surface(BONE_MM), seed=seed, spacing_mm=BONE_SPACING_MM), "LEG")


_SAMPLES: dict[str, Callable[[int], Sample]] = {
    "anatomical-model": _model,
    "cranial-implant": _implant,
    "osteotomy-guide": _tibia,
    "pedicle-guide": _pedicles,
}
DEVICES = tuple(sorted(_SAMPLES))


def demo_scan(device: str, *, seed: int = 1) -> Sample:
    """A sample for a device family: its order, and the phantom it is for.

    Raises
    ------
    OrderError
        There is no sample for that device.
    """
    if device not in _SAMPLES:
        raise OrderError(f"no sample for device {device!r}; samples: {', '.join(DEVICES)}", hint="choose one of them")
    return _SAMPLES[device](seed)
