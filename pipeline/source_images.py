"""Where a scan came from: its images under pseudonyms, and who the patient is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SourceImages:
    """The images that a scan was made of, under pseudonyms: what DICOM objects made from it refer to.

    ``instance_uids`` rise with the position along the slice normal; a multi-frame object is one instance.
    """

    study_uid: str
    series_uid: str
    frame_of_reference_uid: str
    sop_class_uid: str
    instance_uids: tuple[str, ...]


@dataclass(frozen=True, slots=True, repr=False)
class Identity:
    """Who the patient is, under the names that came in: stays in ``intake/identity.json`` and goes nowhere else.

    ``instance_uids`` stand in the order of :attr:`SourceImages.instance_uids`.
    """

    patient_name: str
    patient_id: str
    birth_date: str
    sex: str
    study_instance_uid: str
    series_instance_uid: str
    frame_of_reference_uid: str
    accession_number: str
    study_date: str
    instance_uids: tuple[str, ...] = ()
