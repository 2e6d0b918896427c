"""Who the patient is: read once, handed on alone; and what a record may keep of a series' free texts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from batchone.pipeline.errors import SeriesError
from batchone.pipeline.intake.header import Header, Unreadable, read_header
from batchone.pipeline.intake.pseudonym import pseudonymous_uid
from batchone.pipeline.intake.quiet import pydicom_quiet
from batchone.pipeline.values import Identity, SourceImages

MAX_IDENTITY_TEXT = 1024  # characters; a person name has at most five parts in three scripts of 64 each
MAX_TEXT = 64  # characters; the longest a short DICOM text may be
NOBODY: Final = Identity("", "", "", "", "", "", "", "", "")

_CODECS = {  # the defined terms of SpecificCharacterSet without code extensions
    "": "ascii",
    "ISO_IR 6": "ascii",
    "ISO_IR 100": "latin-1",
    "ISO_IR 101": "iso8859-2",
    "ISO_IR 109": "iso8859-3",
    "ISO_IR 110": "iso8859-4",
    "ISO_IR 144": "iso8859-5",
    "ISO_IR 127": "iso8859-6",
    "ISO_IR 126": "iso8859-7",
    "ISO_IR 138": "iso8859-8",
    "ISO_IR 148": "iso8859-9",
    "ISO_IR 13": "shift_jis",
    "ISO_IR 166": "iso8859-11",
    "ISO_IR 192": "utf-8",
    "GB18030": "gb18030",
    "GBK": "gbk",
}
_TAGS = {
    "charset": 0x00080005,
    "study_date": 0x00080020,
    "accession_number": 0x00080050,
    "patient_name": 0x00100010,
    "patient_id": 0x00100020,
    "birth_date": 0x00100030,
    "sex": 0x00100040,
}
_POSITIONS = frozenset(
    {"HFS", "HFP", "HFDR", "HFDL", "FFS", "FFP", "FFDR", "FFDL", "LFP", "LFS", "RFP", "RFS", "AFDR", "AFDL", "PFDR", "PFDL"}
)


def read_identity(headers: Sequence[Header]) -> Identity:
    """The patient and study of the images of one series, from its first image.

    Raises
    ------
    SeriesError
        The header cannot be read a second time.
    """
    header = headers[0]
    try:
        again = read_header(header.origin, frozenset(_TAGS.values()))
    except Unreadable as error:
        raise SeriesError("an image changed while it was read", hint="run again when the study is complete") from error
    if again is None:
        raise SeriesError("an image changed while it was read", hint="run again when the study is complete")
    charset = again.values.get(_TAGS["charset"], b"").decode("latin-1").strip(" \0")
    read = {name: _decoded(again.values.get(tag, b""), charset) for name, tag in _TAGS.items() if name != "charset"}
    return Identity(
        patient_name=read["patient_name"],
        patient_id=read["patient_id"],
        birth_date=read["birth_date"],
        sex=read["sex"],
        study_instance_uid=header.text("StudyInstanceUID"),
        series_instance_uid=header.text("SeriesInstanceUID"),
        frame_of_reference_uid=header.text("FrameOfReferenceUID"),
        accession_number=read["accession_number"],
        study_date=read["study_date"],
        instance_uids=tuple(one.text("SOPInstanceUID") for one in headers),
    )


def source_images(headers: Sequence[Header]) -> SourceImages:
    """What objects made from these images refer to, under pseudonyms."""
    head = headers[0]
    return SourceImages(
        study_uid=pseudonymous_uid(head.text("StudyInstanceUID")),
        series_uid=pseudonymous_uid(head.text("SeriesInstanceUID")),
        frame_of_reference_uid=pseudonymous_uid(head.text("FrameOfReferenceUID")),
        sop_class_uid=head.sop_class,
        instance_uids=tuple(pseudonymous_uid(one.text("SOPInstanceUID")) for one in headers),
    )


def device_text(header: Header, keyword: str) -> str:
    """A text about the scanner: printable, short, backslashes kept between values."""
    return re.sub(r"[^\x20-\x7e]", "?", header.text(keyword))[:MAX_TEXT].strip()


def patient_position(header: Header) -> str:
    """The position of the patient on the table; empty unless it is one of the defined codes."""
    found = header.text("PatientPosition").upper()
    return found if found in _POSITIONS else ""


def _decoded(raw: bytes, charset: str) -> str:
    codec = _CODECS.get(charset)
    text = _decoded_with_escapes(raw, charset) if codec is None else raw.decode(codec, errors="replace")
    return text.strip(" \0")[:MAX_IDENTITY_TEXT]


def _decoded_with_escapes(raw: bytes, charset: str) -> str:
    """Text with code extensions (ISO 2022); imported here, for the import takes longer than the whole intake."""
    from pydicom.charset import convert_encodings, decode_bytes
    from pydicom.valuerep import TEXT_VR_DELIMS

    with pydicom_quiet():
        try:
            return decode_bytes(raw, convert_encodings(charset.split("\\")), TEXT_VR_DELIMS)
        except (LookupError, ValueError, TypeError):
            return raw.decode("latin-1")
