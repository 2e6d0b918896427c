"""The DICOM objects of a job, for the way back into the hospital's archive: segmentation, models, report.

De-identified: the patient is named by case code, and every UID of the hospital stands under its pseudonym.
``batchone return`` puts the hospital's own back.
"""

from __future__ import annotations

from collections.abc import Sequence

from batchone.pipeline.job.describe import Case, job_id_of
from batchone.pipeline.job.dicom_check import REPORT, SEGMENTATION, images_digest
from batchone.pipeline.job.dicom_document import model_object, report_object
from batchone.pipeline.job.dicom_header import Frame, new_frame
from batchone.pipeline.job.dicom_seg import segmentation_object, segments_of
from batchone.pipeline.job.manifest import DicomEntry, Row
from batchone.pipeline.job.voxels import Grid
from batchone.pipeline.values import FloatArray


def model_name(number: int, part: str) -> str:
    """Where the model of a part lies: ``model.dcm`` for the first (number 1), ``model-<part>.dcm`` for the others."""
    return "dicom/model.dcm" if number == 1 else f"dicom/model-{part}.dcm"


def frame_of(case: Case) -> Frame | None:
    """What all objects of the job state; None when the scan came from no DICOM series."""
    images = case.scan.record.images
    if images is None:
        return None
    return new_frame(job_id_of(case), case.order.case, images, case.approval.time, public_key=case.key.public_key)


def shapes(case: Case, frame: Frame, stls: Sequence[bytes]) -> tuple[dict[str, bytes], DicomEntry]:
    """The objects that carry shapes: the segmentation and one model per part.

    Parameters
    ----------
    case
        The case.
    frame
        From :func:`frame_of`.
    stls
        The bytes of ``parts/*.stl``, in the order of the device's parts.

    Returns
    -------
    dict, DicomEntry
        Relative path -> bytes; and what ``job.json`` says about them.
    """
    scan, device = case.scan, case.checked.device
    rows, columns = scan.hu.shape[1:]
    grid = Grid(scan.affine, (scan.hu.shape[0], rows, columns))
    segments = segments_of(case.anatomy, device)
    segmentation, own, first = segmentation_object(frame, segments, grid, tilt_deg=scan.record.gantry_tilt_deg)
    files = {SEGMENTATION: segmentation}
    for number, (part, stl) in enumerate(zip(device.parts, stls, strict=True), start=1):
        files[model_name(number, part.name)] = model_object(frame, stl, part=part.name, family=device.family, number=number)
    entry = DicomEntry(
        study_uid=frame.images.study_uid,
        series_uid=frame.images.series_uid,
        frame_of_reference_uid=frame.images.frame_of_reference_uid,
        sop_class_uid=frame.images.sop_class_uid,
        images=len(frame.images.instance_uids),
        images_digest=images_digest(frame.images.instance_uids),
        affine=_rows(own.affine),
        slices=own.shape[0],
        rows=own.shape[1],
        columns=own.shape[2],
        first_slice=first,
        segments=tuple(segment.meaning.label for segment in segments),
        models=tuple(model_name(number, part.name) for number, part in enumerate(device.parts, start=1)),
    )
    return files, entry


def report(frame: Frame, pdf: bytes) -> tuple[str, bytes]:
    """Path and bytes of the object that carries the clinical report."""
    return REPORT, report_object(frame, pdf)


def _rows(affine: FloatArray) -> tuple[Row, Row, Row, Row]:
    first, second, third, fourth = ((float(a), float(b), float(c), float(d)) for a, b, c, d in affine)
    return (first, second, third, fourth)
