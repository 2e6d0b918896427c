"""All labels of a case as a DICOM segmentation, made when somebody asks: the larger the scan, the more seconds it takes."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from batchone.pipeline.editing.take import ABOUT, scan_mark
from batchone.pipeline.errors import InputError
from batchone.pipeline.job.dicom_header import new_frame
from batchone.pipeline.job.dicom_seg import labels_object
from batchone.pipeline.order import Order
from batchone.pipeline.values import Anatomy, Scan


def labels_file(scan: Scan, anatomy: Anatomy, record: Mapping[str, Any], order: Order, *, public_key: str) -> bytes:
    """The object; the same for the same segmentation.

    Parameters
    ----------
    scan, anatomy, order
        The case's.
    record
        ``stage.json`` of the segmentation: its digest goes into the UIDs, its time is the object's.
    public_key
        The site's.

    Raises
    ------
    InputError
        There are no labels, or the scan came from no DICOM images.
    """
    if anatomy.labels is None or not anatomy.labels.labels:
        raise InputError("the case has no labels", hint="segment it again")
    images = scan.record.images
    if images is None:
        raise InputError(
            "the scan came as a volume file: there are no images that a DICOM segmentation could refer to",
            hint="take labels.seg.nrrd or labels.nii.gz of the case's segment folder",
        )
    made = dt.datetime.fromisoformat(str(record["started"]))
    frame = new_frame(f"labels {record['value_digest']}", order.case, images, made, public_key=public_key)
    tilt_deg = scan.record.gantry_tilt_deg
    return labels_object(frame, anatomy.labels, source=anatomy.source, about=ABOUT + scan_mark(scan), tilt_deg=tilt_deg)
