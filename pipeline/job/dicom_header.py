"""What the DICOM objects of a job have in common: patient code, study, equipment, times of the approval, UIDs from content."""

from __future__ import annotations

import datetime as dt
import hashlib
import io
from dataclasses import dataclass, replace
from importlib import metadata

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from batchone.pipeline.job.dicom_bytes import element, items, put_encoded
from batchone.pipeline.job.dicom_codes import Code
from batchone.pipeline.values import SourceImages

MAKER = "batchone"
DEIDENTIFIED = "made from a de-identified scan; patient named by case code"
FIRST_SERIES_NUMBER = 9000  # far above what a scanner numbers: the made series stand together at the end of a study
CHARACTER_SET = "ISO_IR 192"
_DOMAIN = b"batchone/object/1/"  # keeps these hashes apart from all others
_CLASS_UID = "2.25.274902184690433868105120394886193478117"  # ImplementationClassUID: fixed for this writer
_VERSION_NAME = "BATCHONE"
_LEAST, _SPAN = 10**38, 2**128 - 10**38  # UIDs of 39 digits: one length, so that one can be exchanged for another
_SITE_CHARACTERS = 16
_EMPTY_UID = f"2.25.{_LEAST}"


@dataclass(frozen=True, slots=True)
class Frame:
    """What every object of one job states: the job, the case code, the scan it belongs to, when and with what it was made."""

    job: str
    case: str
    images: SourceImages
    time: dt.datetime
    site: str
    version: str


def content_uid(*words: str) -> str:
    """A UID (``2.25.`` and 39 digits) that depends on the words alone."""
    digest = hashlib.sha256(_DOMAIN + "\0".join(words).encode()).digest()
    return f"2.25.{_LEAST + int.from_bytes(digest[:24], 'big') % _SPAN}"


def new_frame(job: str, case: str, images: SourceImages, time: dt.datetime, *, public_key: str) -> Frame:
    """What the objects of a job state; ``public_key`` is the site's. Where the scan states no frame of reference, they share one
    of their own."""
    if not images.frame_of_reference_uid:
        images = replace(images, frame_of_reference_uid=content_uid("frame of reference", images.series_uid))
    site = hashlib.sha256(public_key.encode()).hexdigest()[:_SITE_CHARACTERS]
    return Frame(job, case, images, time, site, metadata.version("batchone"))


def new_object(frame: Frame, *, sop_class: str, modality: str, series: str, number: int, instance: int = 1) -> Dataset:
    """An object with patient, study, series and equipment; its SOPInstanceUID is set by :func:`object_bytes`."""
    item = Dataset()
    item.SpecificCharacterSet = CHARACTER_SET
    item.SOPClassUID = sop_class
    item.SOPInstanceUID = _EMPTY_UID
    item.StudyInstanceUID = frame.images.study_uid
    item.StudyDate = item.StudyTime = item.AccessionNumber = item.StudyID = item.ReferringPhysicianName = ""
    item.PatientName = item.PatientID = frame.case
    item.PatientBirthDate = item.PatientSex = ""
    item.PatientIdentityRemoved = "YES"
    item.DeidentificationMethod = DEIDENTIFIED
    item.Modality = modality
    item.SeriesInstanceUID = content_uid("series", frame.job, series)
    item.SeriesNumber = FIRST_SERIES_NUMBER + number
    item.SeriesDescription = f"batchone {series}"
    item.InstanceNumber = instance
    item.Manufacturer = item.ManufacturerModelName = MAKER
    item.DeviceSerialNumber = frame.site
    item.SoftwareVersions = frame.version
    date, time = date_and_time(frame.time)
    item.SeriesDate = item.ContentDate = item.InstanceCreationDate = date
    item.SeriesTime = item.ContentTime = item.InstanceCreationTime = time
    item.TimezoneOffsetFromUTC = "+0000"
    return item


def date_and_time(when: dt.datetime) -> tuple[str, str]:
    """A time as DICOM writes it, in UTC."""
    utc = when.astimezone(dt.UTC)
    return f"{utc:%Y%m%d}", f"{utc:%H%M%S}"


def coded(code: Code) -> Dataset:
    """One item of a code sequence."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code
    return item


def reference(sop_class: str, instance: str) -> bytes:
    """The content of an item that refers to an instance."""
    return element("ReferencedSOPClassUID", sop_class.encode()) + element("ReferencedSOPInstanceUID", instance.encode())


def source_references(images: SourceImages) -> bytes:
    """The items that refer to all images of the scan."""
    return items(reference(images.sop_class_uid, uid) for uid in images.instance_uids)


def refer_to_series(item: Dataset, images: SourceImages) -> None:
    """State the scan's series and images (Common Instance Reference)."""
    instances = element("ReferencedInstanceSequence", source_references(images))
    series = instances + element("SeriesInstanceUID", images.series_uid.encode())
    put_encoded(item, "ReferencedSeriesSequence", items([series]))


def object_bytes(item: Dataset) -> bytes:
    """Write an object as a file (explicit VR, little endian) whose SOPInstanceUID is the hash of all the rest."""
    item.file_meta = FileMetaDataset()
    item.file_meta.MediaStorageSOPClassUID = item.SOPClassUID
    item.file_meta.MediaStorageSOPInstanceUID = item.SOPInstanceUID
    item.file_meta.ImplementationClassUID = _CLASS_UID
    item.file_meta.ImplementationVersionName = _VERSION_NAME
    data = file_bytes(item)
    return data.replace(_EMPTY_UID.encode(), _own_uid(data).encode(), 2)


def holds_own_uid(data: bytes, uid: str) -> bool:
    """Is this UID, which a file made by :func:`object_bytes` carries, the hash of the rest of it?"""
    return _own_uid(data.replace(uid.encode("ascii", "replace"), _EMPTY_UID.encode(), 2)) == uid


def file_bytes(item: Dataset) -> bytes:
    """Write a dataset with its file meta information, explicit VR little endian."""
    item.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    item.set_original_encoding(False, True, ["UTF8"])  # what is encoded already stays as it is
    stream = io.BytesIO()
    item.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def _own_uid(data: bytes) -> str:
    return f"2.25.{_LEAST + int.from_bytes(hashlib.sha256(_DOMAIN + data).digest()[:24], 'big') % _SPAN}"


def padded(data: bytes) -> bytes:
    """An even number of bytes, as DICOM wants it; the true length stands beside it."""
    return data + b"\0" * (len(data) % 2)
