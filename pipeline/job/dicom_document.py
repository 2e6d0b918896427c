"""Part meshes as Encapsulated STL, the clinical report as Encapsulated PDF."""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage, EncapsulatedSTLStorage

from batchone.pipeline.job.dicom_bytes import put_encoded
from batchone.pipeline.job.dicom_codes import CT_MODEL, GEOMETRY, MILLIMETRE, use_code
from batchone.pipeline.job.dicom_header import (
    MAKER,
    Frame,
    coded,
    content_uid,
    date_and_time,
    new_object,
    object_bytes,
    padded,
    refer_to_series,
    source_references,
)

STL_TYPE, PDF_TYPE = "model/stl", "application/pdf"


def model_object(frame: Frame, stl: bytes, *, part: str, family: str, number: int) -> bytes:
    """A binary STL (patient LPS, mm) as an Encapsulated STL in the scan's frame of reference.

    Parameters
    ----------
    frame
        The job.
    stl
        The bytes of ``parts/<part>.stl``, carried as they are.
    part, family
        Names of the part and of its device family.
    number
        1 for the first part; parts of one job share series and model group.
    """
    item = new_object(frame, sop_class=EncapsulatedSTLStorage, modality="M3D", series="models", number=2, instance=number)
    item.FrameOfReferenceUID = frame.images.frame_of_reference_uid
    item.PositionReferenceIndicator = ""
    _put_document(item, frame, stl, title=part, kind=STL_TYPE)
    item.ConceptNameCodeSequence = [coded(CT_MODEL)]
    refer_to_series(item, frame.images)
    item.MeasurementUnitsCodeSequence = [coded(MILLIMETRE)]
    item.ModelModification = "NO" if family.endswith("-model") else "YES"  # a device is no likeness of what was scanned
    item.ModelMirroring = "NO"
    item.ModelUsageCodeSequence = [coded(use_code(family))]
    item.ModelGroupUID = content_uid("model group", frame.job)
    item.ContentDescription = f"{family}: {part}"[:64]
    algorithm = Dataset()
    algorithm.AlgorithmFamilyCodeSequence = [coded(GEOMETRY)]
    algorithm.AlgorithmName, algorithm.AlgorithmVersion = MAKER, frame.version
    item.DerivationAlgorithmSequence = [algorithm]
    return object_bytes(item)


def report_object(frame: Frame, pdf: bytes) -> bytes:
    """The clinical report as an Encapsulated PDF; ``pdf`` is carried as it is."""
    item = new_object(frame, sop_class=EncapsulatedPDFStorage, modality="DOC", series="report", number=3)
    item.ConversionType = "WSD"
    _put_document(item, frame, pdf, title="Clinical report", kind=PDF_TYPE)
    item.ConceptNameCodeSequence = []
    return object_bytes(item)


def _put_document(item: Dataset, frame: Frame, data: bytes, *, title: str, kind: str) -> None:
    date, time = date_and_time(frame.time)
    item.AcquisitionDateTime = f"{date}{time}+0000"
    item.BurnedInAnnotation = "NO"
    item.RecognizableVisualFeatures = "NO"
    item.DocumentTitle = title
    item.MIMETypeOfEncapsulatedDocument = kind
    put_encoded(item, "SourceInstanceSequence", source_references(frame.images))
    put_encoded(item, "EncapsulatedDocument", padded(data))
    item.EncapsulatedDocumentLength = len(data)
