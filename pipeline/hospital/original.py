"""What leads a job's DICOM objects back to the patient: the hospital's own UIDs and names, put in for the pseudonyms."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchone.pipeline.errors import InputError, MachineError
from batchone.pipeline.hospital.keep import Keep, keep_folder
from batchone.pipeline.intake.pseudonym import pseudonymous_uid
from batchone.pipeline.job.dicom_check import read_object
from batchone.pipeline.job.dicom_header import file_bytes
from batchone.pipeline.job.manifest import DicomEntry

EVENTS = "events.jsonl"  # of the keep, or of the case folder that the job lies in
_IDENTITY_FILE = Path("intake") / "identity.json"
_MAX_IDENTITY_BYTES = 16_000_000  # of identity.json; 6,000 images take under 1 MB
_ATTRIBUTES = {
    "patient_name": "PatientName",
    "patient_id": "PatientID",
    "birth_date": "PatientBirthDate",
    "sex": "PatientSex",
    "accession_number": "AccessionNumber",
    "study_date": "StudyDate",
}
_PUT_BACK = (*_ATTRIBUTES.values(), "StudyID", "StudyTime", "StudyDescription", "ReferringPhysicianName")
_REMOVED = ("PatientIdentityRemoved", "DeidentificationMethod")  # no longer true of what returns
_MUST_LEAD_BACK = ("ReferencedSOPInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
_LOST = "run it where the study was submitted (--keep), or on the case folder that read the original study"


@dataclass(frozen=True, slots=True, repr=False)
class Original:
    """The hospital's own: UID by the pseudonym in a job, patient and study attributes by keyword, and where its events stand."""

    uids: Mapping[str, str]
    attributes: Mapping[str, str]
    events: Path


def find_original(job: Path, case: str, keep: Path | None) -> Original:
    """What is known of a case: from the hospital's keep, else from the case folder that the job lies in.

    Parameters
    ----------
    job
        The job folder.
    case
        Its case code.
    keep
        The hospital's keep, by default where ``batchone submit`` put it.

    Raises
    ------
    InputError
        Neither knows the case.
    MachineError
        What is known does not open.
    """
    folder = keep_folder(keep)
    if (folder / "secret.key").is_file():
        relink = Keep.open(folder).recall(case)
        if relink is not None:
            uids = {pseudonymous_uid(mask): uid for mask, uid in relink.uids}
            return Original(uids, dict(relink.attributes), folder / EVENTS)
    elif keep is not None:
        raise InputError("--keep names no keep: it holds no secret.key", hint="give the folder that `batchone submit` made")
    case_folder = job.resolve().parent.parent
    if (case_folder / _IDENTITY_FILE).is_file():
        return _from_identity(case_folder)
    raise InputError(f"nothing leads case {case} back to its patient", hint=_LOST)


def refuse_other_study(original: Original, entry: DicomEntry) -> None:
    """See that the job was made from the study that is known.

    Raises
    ------
    InputError
        It was made from another.
    """
    unknown = [uid for uid in (entry.study_uid, entry.series_uid) if uid not in original.uids]
    if unknown:
        raise InputError("the job was made from another study than the one that is known of its case", hint=_LOST)


def restored(data: bytes, original: Original, entry: DicomEntry) -> bytes:
    """The same object with the hospital's own UIDs, patient and study; its own instance and series UIDs stay.

    The same job gives the same bytes every time.

    Parameters
    ----------
    data
        A DICOM object of the job, verified.
    original
        What leads it back.
    entry
        What ``job.json`` says of the job's objects.

    Raises
    ------
    InputError
        The object refers to an image that is not known.
    """
    from pydicom import config

    item = read_object(data)
    reading, writing = config.settings.reading_validation_mode, config.settings.writing_validation_mode
    config.settings.reading_validation_mode = config.settings.writing_validation_mode = config.IGNORE  # names as they came in
    try:
        _lead_back(item, original, entry)
        for keyword in _REMOVED:
            if keyword in item:
                delattr(item, keyword)
        for keyword in _PUT_BACK:
            if keyword in original.attributes:
                setattr(item, keyword, original.attributes[keyword])
        return file_bytes(item)
    finally:
        config.settings.reading_validation_mode, config.settings.writing_validation_mode = reading, writing


def _from_identity(case_folder: Path) -> Original:
    try:
        with (case_folder / _IDENTITY_FILE).open("rb") as stream:
            tree = json.loads(stream.read(_MAX_IDENTITY_BYTES))
        originals = [tree[f"{level}_uid"] for level in ("study_instance", "series_instance", "frame_of_reference")]
        originals += tree["instance_uids"]
        attributes = {keyword: str(tree[name]) for name, keyword in _ATTRIBUTES.items()}
        uids = {pseudonymous_uid(str(uid)): str(uid) for uid in originals if uid}
        return Original(uids, attributes, case_folder / EVENTS)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MachineError("the case's intake/identity.json cannot be read", hint="run the case again from its study") from error


def _lead_back(item: Any, original: Original, entry: DicomEntry) -> None:
    """Put the original in for every pseudonym, at any depth."""
    from pydicom.datadict import keyword_for_tag

    own_frame = "" if entry.frame_of_reference_uid in original.uids else entry.frame_of_reference_uid
    for dataset, element in _uid_elements(item):
        mask = str(element.value)
        if mask in original.uids:
            dataset[element.tag].value = original.uids[mask]
        elif keyword_for_tag(element.tag) in _MUST_LEAD_BACK and mask != own_frame:
            raise InputError("the job refers to an image that is not known of its case", hint=_LOST)


def _uid_elements(item: Any) -> Iterator[tuple[Any, Any]]:
    waiting = [item]
    while waiting:
        dataset = waiting.pop()
        for tag in sorted(dataset.keys()):
            vr = dataset.get_item(tag).VR
            if vr == "UI":
                yield dataset, dataset[tag]
            elif vr == "SQ":
                waiting.extend(dataset[tag].value)
