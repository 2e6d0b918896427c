"""An external program behind a file contract: NIfTI in; labels as NIfTI and their names as JSON out.

Whatever the program says is checked: grid, values, names, sides, version. What does not fit is refused by name.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, ValidationError

from batchone.pipeline.config import External
from batchone.pipeline.errors import MachineError
from batchone.pipeline.order import Model
from batchone.pipeline.program import Program, run_program
from batchone.pipeline.values import FloatArray, Scan
from batchone.segment.backends.foreign import Named, label_map_of
from batchone.segment.backends.names import known_bone
from batchone.segment.backends.separated import Separated
from batchone.segment.grids import GridError, laid_on
from batchone.segment.label_map import LabelArray, LabelMap, compact
from batchone.segment.nifti import LabelFileError, nifti_bytes, read_labels

CONFIDENCE = 0.8  # of a bone whose label a program gave without saying how sure it is; project default, unverified
_MAX_NAMES_BYTES = 1_000_000
_HINT = "correct the program, or set another one in [segmentation.external] of site.toml"
_PROGRAM = Program(
    role="segmentation program",
    missing="install it, or correct [segmentation.external] program in site.toml",
    failed='run it by hand on a scan; `[segmentation] backend = "threshold"` does without it',
    too_slow="raise timeout_s in [segmentation.external] of site.toml, or look why it hangs",
    too_large="raise memory_mb in [segmentation.external] of site.toml, or run it on a smaller scan",
)

Text = Annotated[str, Field(min_length=1, max_length=64)]


class Names(Model):
    """What the program writes beside its labels: who it is, what each value means, and (if it knows) how sure it is."""

    name: Text
    version: Text
    labels: Annotated[dict[str, Text], Field(max_length=1024)]
    confidence: dict[str, Annotated[float, Field(ge=0.0, le=1.0)]] = Field(default_factory=dict)


def external(scan: Scan, settings: External) -> Separated:
    """Let the site's program tell the bones apart.

    Raises
    ------
    MachineError
        It is missing, fails, runs beyond its limits, or gives what cannot be used.
    """
    with tempfile.TemporaryDirectory(prefix="batchone-bones-") as folder:
        work = Path(folder)
        files = {"image": work / "image.nii.gz", "labels": work / "labels.nii.gz", "names": work / "names.json"}
        files["image"].write_bytes(nifti_bytes(scan.hu, scan.affine))
        command = [_filled_in(part, files) for part in settings.program]
        run_program(command, work, program=_PROGRAM, timeout_s=settings.timeout_s, memory_mb=settings.memory_mb)
        names = _names(files["names"], settings)
        voxels = _labels(files["labels"], scan)
    source = f"{names.name} {names.version}"
    given = _named(names, voxels, scan.affine, source)
    return Separated(label_map_of(voxels, scan, given, refuse=_refuse), source)


def _filled_in(part: str, files: dict[str, Path]) -> str:
    for name, path in files.items():
        part = part.replace("{" + name + "}", str(path))
    return part


def _names(path: Path, settings: External) -> Names:
    try:
        if path.stat().st_size > _MAX_NAMES_BYTES:
            raise _refuse(f"the file of names is {path.stat().st_size} bytes, at most {_MAX_NAMES_BYTES} bytes")
        names = Names.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise _refuse("no file of names was written") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise _refuse("the file of names is no JSON") from error
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()[:5])
        raise _refuse(f"the file of names is not valid: {faults}") from error
    if names.version != settings.version:
        raise MachineError(
            f"the segmentation program {names.name} says that it is version {names.version}, site.toml says {settings.version}",
            hint="set version in [segmentation.external] of site.toml after its results were looked at",
        )
    return names


def _labels(path: Path, scan: Scan) -> LabelArray:
    if not path.is_file():
        raise _refuse("no labels were written")
    try:
        voxels, affine, _ = read_labels(path, most=scan.hu.size)
        voxels = laid_on(voxels, affine, scan.affine, scan.hu.shape, part=False)
    except LabelFileError as error:
        raise _refuse(f"the file of labels {error}") from error
    except GridError as error:
        raise _refuse(f"the labels lie on another grid: {error}") from error
    low, high = int(voxels.min()), int(voxels.max())
    if low < 0 or high > np.iinfo(np.uint8).max:
        raise _refuse(f"label values run from {low} to {high}, must be 0 to 255")
    return voxels.astype(np.uint8)


def _named(names: Names, voxels: LabelArray, affine: FloatArray, source: str) -> tuple[Named, ...]:
    """Every value that occurs, with the bone that it is; values that are no bone are left out."""
    present = [int(value) for value in np.unique(compact(LabelMap(voxels, affine, ())).value)]
    named, unknown = [], []
    for value in present:
        text = names.labels.get(str(value))
        try:
            bone = known_bone(text) if text is not None else None
        except KeyError:
            bone = None
            unknown.append(f"{value} ({text})")
        if text is None:
            unknown.append(f"{value} (no name)")
        if bone is not None:
            sure = names.confidence.get(str(value), CONFIDENCE)
            named.append(Named(value, bone[0], bone[1], sure, f"{source} names it {text}"))
    if unknown:
        raise _refuse(f"labels of unknown meaning: {', '.join(unknown)}; at most 0")
    return tuple(named)


def _refuse(text: str) -> MachineError:
    return MachineError(f"the segmentation program's answer cannot be used: {text}", hint=_HINT)
