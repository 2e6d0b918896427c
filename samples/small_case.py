"""A case that takes seconds: a model of a short, coarsely scanned bone, for whoever wants many whole cases."""

from __future__ import annotations

from pathlib import Path

from batchone.samples.dicom import write_series
from batchone.samples.long_bone import bone_surface, long_bone

BONE_MM = 70.0  # as long as a child's: the volume is what costs
SPACING_MM = (1.5, 1.4, 1.4)  # coarse: what the protocol of a model just allows without a warning matters little here
ORDER = """\
case = "{case}"
device = "anatomical-model"
side = "left"
process = "pa12-sls"
machine = "sim-01"
due = 2030-11-24T08:00:00Z

[prescription]
prescriber = "code-17"
characteristics = "a short bone, as large as life"

[target]
bones = ["tibia"]
"""


def write_small_case(folder: Path, *, case: str = "small-0001", seed: int = 1) -> tuple[Path, Path]:
    """Write ``order.toml`` and ``study/`` into ``folder``.

    Returns
    -------
    tuple of Path
        The order and the study folder; the same seed gives the same bytes.
    """
    bone = long_bone(bone_surface(BONE_MM), seed=seed, spacing_mm=SPACING_MM)
    write_series(bone.hu, bone.affine, folder / "study", seed=seed, body_part="LEG")
    (folder / "order.toml").write_text(ORDER.format(case=case), encoding="utf-8")
    return folder / "order.toml", folder / "study"
