"""A NIfTI, NRRD or MetaImage volume as a study: research use, for such a file has no series metadata.

SimpleITK reads one file at a time here and gives LPS millimetres (NIfTI is stored RAS and turned on the way).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from batchone.pipeline.errors import MachineError, SeriesError
from batchone.pipeline.intake.deidentify import NOBODY
from batchone.pipeline.intake.package import FileSource, combined_digest, content_digest
from batchone.pipeline.intake.pixels import MAX_SERIES_BYTES, MAX_SIDE_PIXELS
from batchone.pipeline.intake.protocol import protocol_findings, refuse_outside
from batchone.pipeline.intake.quality import check_hounsfield
from batchone.pipeline.intake.volume import set_floor
from batchone.pipeline.limits import Protocol
from batchone.pipeline.values import FloatArray, HuArray, Identity, Scan, SeriesRecord, Vector

MAX_RIGHT_ANGLE_ERROR = 1e-3  # scalar product of two axes; project default
_FORMATS = {".nii": "NIfTI", ".gz": "NIfTI", ".nrrd": "NRRD", ".mha": "MetaImage"}
_HEAD_BYTES = 1 << 16  # text headers end well before
_RESEARCH = "no series metadata: thickness, tilt, kernel and patient position are unknown; for research use"


def read_volume_file(study: Path, protocol: Protocol) -> tuple[Scan, Identity]:
    """Read one volume file and gate it as far as it can be gated.

    Raises
    ------
    SeriesError
        Not readable, not one grey volume, not in Hounsfield units, or outside the protocol.
    MachineError
        SimpleITK is not installed.
    """
    shape, spacing_mm, form = measure_volume_file(study)
    findings = protocol_findings(
        protocol,
        slices=shape[0],
        spacing_mm=spacing_mm[2],
        thickness_mm=None,
        pixel_mm=max(spacing_mm[:2]),
        tilt_deg=0.0,
    )
    refuse_outside(findings)
    hu, affine = _right_handed(*_read(study))
    findings = (*findings, *check_hounsfield(hu))
    raised = set_floor(hu)
    record = SeriesRecord(
        modality="CT",
        manufacturer="",
        model="",
        kernel="",
        patient_position="",
        slices=shape[0],
        slice_spacing_mm=spacing_mm[2],
        slice_thickness_mm=spacing_mm[2],
        pixel_mm=spacing_mm[:2],
        gantry_tilt_deg=0.0,
        transfer_syntax=form,
        sources_digest=combined_digest([content_digest(FileSource(study.resolve(), study.stat().st_size))]),
        corrections=(_RESEARCH, *((f"{raised} voxels below -1024 HU were set to -1024 HU",) if raised else ())),
    )
    hu.setflags(write=False)
    return Scan(hu, affine, record, findings), NOBODY


def measure_volume_file(study: Path) -> tuple[tuple[int, int, int], Vector, str]:
    """Shape (slices, rows, columns), spacing (column, row, slice; mm) and format of a volume file, from its header.

    Raises
    ------
    SeriesError
        Not readable, split over two files, or not one grey volume.
    MachineError
        SimpleITK is not installed.
    """
    suffix = study.suffix.lower()
    if suffix not in _FORMATS:
        raise SeriesError(
            "the volume is split in a header and a data file, must be one file", hint="save it as .nrrd, .mha or .nii.gz"
        )
    _refuse_detached(FileSource(study.resolve(), study.stat().st_size))
    reader = _reader(study)
    columns, rows, slices = reader.GetSize()
    return (slices, rows, columns), tuple(reader.GetSpacing()), _FORMATS[suffix]


def _refuse_detached(source: FileSource) -> None:
    """Refuse a text header that names another file: nothing is followed out of the study."""
    head = source.read(0, _HEAD_BYTES)
    lines = [line.strip().lower().replace(b" ", b"") for line in head.split(b"\n")]
    nrrd = head.startswith(b"NRRD") and any(line.startswith(b"datafile:") for line in lines)
    meta = any(line.startswith(b"elementdatafile=") and line != b"elementdatafile=local" for line in lines)
    if nrrd or meta:
        raise SeriesError("the volume file points to another file, must hold its data itself", hint="save it as one file")


def _reader(study: Path) -> Any:
    """SimpleITK's reader of one file, its header read and its shape accepted."""
    try:
        import SimpleITK
    except ImportError as error:
        raise MachineError("reading a volume file needs SimpleITK", hint="pip install 'batchone[site]'") from error
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(study))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        raise _damaged() from None
    _refuse_shape(reader)
    return reader


def _read(study: Path) -> tuple[HuArray, FloatArray]:
    """(slices, rows, columns) HU and the affine of the axes as they are stored."""
    import SimpleITK

    try:
        image = _reader(study).Execute()
    except RuntimeError:
        raise _damaged() from None
    affine = np.eye(4)
    affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) @ np.diag(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    _refuse_skewed(affine)
    return _as_hu(SimpleITK.GetArrayViewFromImage(image)), affine


def _damaged() -> SeriesError:
    return SeriesError(
        "the volume file cannot be read: damaged, or not the format of its name",
        hint="check that the file opens in a viewer, or send the DICOM series",
    )


def _refuse_shape(reader: Any) -> None:
    size, components = reader.GetSize(), reader.GetNumberOfComponents()
    if reader.GetDimension() != 3 or components != 1 or min(size) < 2 or max(size) > MAX_SIDE_PIXELS:
        raise SeriesError(
            f"the volume file has {reader.GetDimension()} dimensions and {components} components, must be 3 and 1 "
            f"with sides of 2 to {MAX_SIDE_PIXELS} voxels",
            hint="save one grey volume",
        )
    if 2 * size[0] * size[1] * size[2] > MAX_SERIES_BYTES:
        raise SeriesError(
            f"the volume unpacks to {2 * size[0] * size[1] * size[2] / 1e6:.0f} MB, at most {MAX_SERIES_BYTES / 1e6:.0f} MB",
            hint="crop it to the part of the body that is needed",
        )


def _refuse_skewed(affine: FloatArray) -> None:
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if not (np.all(np.isfinite(affine)) and np.all(lengths > 0)):
        raise SeriesError("the geometry of the volume file is not finite", hint="save it again with spacing and directions")
    unit = affine[:3, :3] / lengths
    worst = float(np.abs(unit.T @ unit - np.eye(3)).max())
    if worst > MAX_RIGHT_ANGLE_ERROR:
        raise SeriesError(
            f"the axes of the volume file are off from perpendicular by {worst:.4f}, at most {MAX_RIGHT_ANGLE_ERROR:g}",
            hint="resample it to perpendicular axes",
        )


def _as_hu(values: np.ndarray) -> HuArray:
    """A copy in int16, rounded and clipped."""
    if values.dtype == np.int16:
        return np.array(values)
    if values.dtype.kind not in "iuf":
        raise SeriesError("the volume file does not hold grey values", hint="save one grey volume")
    exact = np.nan_to_num(values, nan=-1024.0) if values.dtype.kind == "f" else values
    return np.rint(np.clip(exact, -32768, 32767)).astype(np.int16)


def _right_handed(hu: HuArray, affine: FloatArray) -> tuple[HuArray, FloatArray]:
    """Store the rows in the other order where the axes were left-handed: the same body, nothing is mirrored."""
    if np.linalg.det(affine[:3, :3]) > 0:
        return hu, affine
    turned = affine.copy()
    turned[:3, 3] += turned[:3, 1] * (hu.shape[1] - 1)
    turned[:3, 1] *= -1
    return np.ascontiguousarray(hu[:, ::-1]), turned
