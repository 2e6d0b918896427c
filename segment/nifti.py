"""Volumes and labels as NIfTI, for programs and people outside. NIfTI is RAS; we are LPS: turned here and nowhere else."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from batchone.pipeline.errors import MachineError
from batchone.pipeline.values import FloatArray

RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
LEVEL = 1  # of gzip: labels are mostly zeros, and a scan gains little from more


class LabelFileError(ValueError):
    """The file cannot be read as one volume of whole numbers; the text says why."""


def nifti_bytes(voxels: npt.NDArray[Any], affine: FloatArray, *, about: str = "") -> bytes:
    """A gzipped NIfTI of (slices, rows, columns) voxels; ``about`` (ASCII, up to 79 characters) goes into its description."""
    nibabel = _nibabel()
    image = nibabel.Nifti1Image(voxels.transpose(2, 1, 0), RAS @ affine)
    image.header["descrip"] = about.encode("ascii", "replace")[:79]
    image.header.set_xyzt_units("mm")
    image.set_sform(RAS @ affine, code=1)
    image.set_qform(RAS @ affine, code=1)
    return gzip.compress(image.to_bytes(), LEVEL, mtime=0)


def read_labels(path: Path, *, most: int) -> tuple[npt.NDArray[Any], FloatArray, str]:
    """Labels of a NIfTI file of at most so many voxels, in the order that they are stored in.

    Returns
    -------
    voxels, affine, about
        (slices, rows, columns) whole numbers; (4, 4) (column, row, slice) index -> LPS mm; the description.

    Raises
    ------
    LabelFileError
        Not readable, not three-dimensional, or values that are no whole numbers.
    """
    nibabel = _nibabel()
    try:
        image = nibabel.load(path)
        shape = tuple(int(n) for n in image.shape)
        if len(shape) == 4 and shape[3] == 1:
            shape = shape[:3]
        if len(shape) != 3 or min(shape) < 1:
            raise LabelFileError(f"has {len(shape)} dimensions ({' x '.join(map(str, shape))}), must be one volume")
        too_large(shape, most)
        about = bytes(image.header["descrip"]).split(b"\0", 1)[0].decode("ascii", "replace")
        values = np.asarray(image.dataobj).reshape(shape)
        affine = RAS @ np.asarray(image.affine, dtype=np.float64)
    except LabelFileError:
        raise
    except (OSError, EOFError, ValueError, KeyError, AttributeError, zlib.error, MemoryError, _image_error(nibabel)) as error:
        raise LabelFileError("cannot be read: damaged, or no NIfTI") from error
    return whole_numbers(values).transpose(2, 1, 0), affine, about


def too_large(shape: tuple[int, ...], most: int) -> None:
    """Refuse a volume before its voxels are read.

    Raises
    ------
    LabelFileError
        More than ``most`` voxels.
    """
    count = math.prod(shape)
    if count > most:
        raise LabelFileError(f"has {' x '.join(map(str, shape))} voxels, {count} in all; the scan has {most}")


def whole_numbers(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Label values as integers.

    Raises
    ------
    LabelFileError
        Values that are no whole numbers.
    """
    if values.dtype.kind in "iu":
        return values
    if values.dtype.kind != "f" or not bool(np.all(np.isfinite(values))) or bool(np.any(values != np.rint(values))):
        raise LabelFileError("holds values that are no whole numbers, must hold labels")
    return np.rint(np.clip(values, -1.0, 65_535.0)).astype(np.int32)


def _image_error(nibabel: Any) -> Any:
    return nibabel.filebasedimages.ImageFileError


def _nibabel() -> Any:
    try:
        import nibabel
    except ImportError as error:
        raise MachineError("NIfTI files need nibabel", hint="pip install 'batchone[site]'") from error
    return nibabel
