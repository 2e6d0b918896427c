"""De-identification of CT objects: a new object is built from what may stay, nothing is deleted from the old one.

The same hospital gives the same UID the same pseudonym and the same patient the same shift of dates, for both hang on its
secret alone; so a study that is sent again is the same study. The rules stand in
:mod:`batchone.pipeline.hospital.confidentiality`.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import re
import struct
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from pydicom import dcmread
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence as Items
from pydicom.tag import BaseTag
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from batchone.pipeline.errors import SeriesError
from batchone.pipeline.hospital.codestream import without_comments
from batchone.pipeline.hospital.confidentiality import (
    CLEANED_TEXTS,
    CODES,
    DESCRIPTOR_WORDS,
    GENERAL_CODES,
    METHOD,
    MOVED_TIMES,
    SCANNER_TEXTS,
    SEQUENCES,
    SHIFTED_DATES,
    TECHNICAL_GROUPS,
    table,
)
from batchone.pipeline.hospital.dates import moved_date, moved_date_time, moved_time
from batchone.pipeline.hospital.identifying import identifying_words, raw_text, text_of, value_text
from batchone.pipeline.hospital.incoming import IMPLEMENTATION_UID
from batchone.pipeline.hospital.keep import Keep
from batchone.pipeline.intake.header import MULTI_FRAME_CT
from batchone.pipeline.intake.header import NATIVE as _NATIVE
from batchone.pipeline.intake.quiet import pydicom_quiet

MIN_SHIFT_DAYS, MAX_SHIFT_DAYS = 31, 3683  # one month to ten years; project default, unverified
MAX_SHIFT_S = 43_000  # with the first time of the study at zero, a scan of half a day does not pass midnight
MAX_DEPTH = 8  # sequences below each other that are kept; functional groups need three
_STANDARD_ROOT = "1.2.840.10008."
_PIXELS = 0x7FE00010
_NUMBERS: Final = frozenset({"US", "SS", "UL", "SL", "UV", "SV", "FL", "FD", "AT"})
_DECIMAL = re.compile(r" *[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)? *")
_WHOLE = re.compile(r" *[+-]?\d+ *")
_CODE = re.compile(r"[A-Z0-9_ ]{0,16}")
_TEXT = re.compile(r"[\x20-\x5b\x5d-\x7e]{0,64}")
_SHORT_NUMBER = re.compile(r"\d(\.\d{1,3})?(MM)?")
_CODED = frozenset({0x00080100, 0x00080102, 0x00080104})
_SCHEMES: Final = {"SRT", "SCT", "DCM", "SNM3", "99SDM", "UCUM", "FMA"}
_FAULTS = (
    BytesLengthException,
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    NotImplementedError,
    OverflowError,
    EOFError,
    IndexError,
    RecursionError,
    MemoryError,
    struct.error,
    InvalidDicomError,
)  # fmt: skip - what pydicom raises on broken input

ATTRIBUTES: Final = (  # of patient and study: what is put back into what returns
    "SpecificCharacterSet", "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID",
    "StudyDate", "StudyTime", "StudyDescription", "ReferringPhysicianName",
)  # fmt: skip


@dataclass(frozen=True, slots=True, repr=False)
class Anonymised:
    """One object: its new bytes, and what leads it back."""

    content: bytes
    uids: tuple[tuple[str, str], ...]
    attributes: tuple[tuple[str, str], ...]
    date_shift_days: int
    words: frozenset[str]


class Anonymiser:
    """Carries the profile out for one hospital."""

    def __init__(self, keep: Keep) -> None:
        self._uid_key = keep.derived("uids")
        self._date_key = keep.derived("dates")

    def uid(self, original: str) -> str:
        """The pseudonym of a UID: ``2.25.`` and 128 bits of its HMAC-SHA256 under the secret; empty stays empty."""
        if not original:
            return ""
        digest = hmac.digest(self._uid_key, original.encode("utf-8", "surrogateescape"), "sha256")
        return f"2.25.{int.from_bytes(digest[:16], 'big')}"

    def shift_days(self, patient: str) -> int:
        """The whole days that are added to the dates of a patient; always backwards."""
        digest = hmac.digest(self._date_key, patient.encode("utf-8", "surrogateescape"), "sha256")
        return -(MIN_SHIFT_DAYS + int.from_bytes(digest[:8], "big") % (MAX_SHIFT_DAYS - MIN_SHIFT_DAYS + 1))

    def shift_us(self, patient: str) -> int:
        """What is added to the times of a patient, microseconds: a few seconds to half a day."""
        digest = hmac.digest(self._date_key, b"time " + patient.encode("utf-8", "surrogateescape"), "sha256")
        return 1_000_000 * (1 + int.from_bytes(digest[:8], "big") % MAX_SHIFT_S)

    def anonymise(self, content: bytes, case: str, *, absent: str = "", zero_us: int = 0) -> Anonymised:
        """De-identify one DICOM file.

        Parameters
        ----------
        content
            The file.
        case
            Takes the place of the patient's name and ID.
        absent
            What the study is known by where its images carry no UID of study or series.
        zero_us
            The time of day from which times are counted, microseconds after midnight: the first of the study.

        Raises
        ------
        SeriesError
            It is broken in a way that leaves no sure way to do so; the message holds nothing of its content.
        """
        with pydicom_quiet():
            try:
                image = hashlib.sha256(content).hexdigest()
                return self._anonymise(dcmread(io.BytesIO(content), force=True), case, (absent, image), zero_us)
            except _FAULTS as error:
                raise SeriesError(
                    f"a CT image cannot be de-identified: its elements are broken ({type(error).__name__})",
                    hint="ask the sender to export the series again",
                ) from None

    def _anonymise(self, source: Dataset, case: str, absent: tuple[str, str], zero_us: int) -> Anonymised:
        patient = text_of(source, "PatientID") or text_of(source, "PatientName") or text_of(source, "StudyInstanceUID")
        work = _Work(
            self, self.shift_days(patient), zero_us - self.shift_us(patient), identifying_words(source), {}, _syntax(source)
        )
        built = work.build(source, 0)
        self._complete(built, source, *absent)
        built.PatientName = built.PatientID = case
        built.PatientIdentityRemoved = "YES"
        built.DeidentificationMethod = METHOD
        built.DeidentificationMethodCodeSequence = Items([_code_item(value, meaning) for value, meaning in CODES])
        built.LongitudinalTemporalInformationModified = "MODIFIED"
        attributes = tuple((name, text_of(source, name)) for name in ATTRIBUTES if name in source)
        content = _written(built, work.syntax, work.pixels(source))
        return Anonymised(content, tuple(sorted(work.uids.items())), attributes, work.shift_days, work.words)

    def _complete(self, built: Dataset, source: Dataset, study: str, image: str) -> None:
        """Put in what every CT image must have, where the sender left it empty."""
        if not built.get("SOPClassUID"):
            built.SOPClassUID = str(source.file_meta.get("MediaStorageSOPClassUID", ""))
        for keyword, text in (("StudyInstanceUID", study), ("SeriesInstanceUID", study), ("SOPInstanceUID", image)):
            if not built.get(keyword):
                setattr(built, keyword, self.uid(f"no {keyword} in {text}"))
        for keyword in ("DeviceSerialNumber", "SoftwareVersions"):  # PS3.3 C.7.5.2: must have a value in multi-frame objects
            if built.SOPClassUID in MULTI_FRAME_CT and keyword in source:
                setattr(built, keyword, "REMOVED")
        for keyword in (
            "PositionReferenceIndicator",
            "PatientBirthDate",
            "PatientSex",
            "StudyID",
            "StudyTime",
            "AccessionNumber",
            "ReferringPhysicianName",
        ):
            setattr(built, keyword, "")


@dataclass(slots=True)
class _Work:
    """The building of one object."""

    rules: Anonymiser
    shift_days: int
    zero_us: int
    words: frozenset[str]
    uids: dict[str, str]
    syntax: str

    def build(self, source: Dataset, depth: int) -> Dataset:
        """A new data set of what may stay of ``source``."""
        built = Dataset()
        actions = table()
        for tag in sorted(source.keys()):
            if tag.is_private or tag.group < 8 or (tag.group >= 0x5000 and tag not in SEQUENCES):
                continue
            action = actions.get(tag)
            kept = self._named(source, tag, action) if action is not None else self._unnamed(source, tag, depth)
            if kept is not None:
                built.add(kept)
        return built

    def _named(self, source: Dataset, tag: BaseTag, action: str) -> DataElement | None:
        """What becomes of an attribute that the table names; where it leaves a choice, the least that keeps CT valid."""
        vr = dictionary_VR(tag)
        if tag in SHIFTED_DATES:
            text = value_text(source, tag)
            moved = moved_date_time(text, self.shift_days, self.zero_us) if vr == "DT" else moved_date(text, self.shift_days)
            return DataElement(tag, vr, moved)
        if tag in MOVED_TIMES:
            return DataElement(tag, vr, moved_time(value_text(source, tag), self.zero_us))
        if tag in CLEANED_TEXTS:
            return self._cleaned(source, tag)
        if action == "U" or (vr == "UI" and action == "D"):
            return self._uid_element(source, tag)
        if action.startswith("X") or vr in ("SQ", "OB", "OW", "UN"):
            return None
        if action.startswith("Z"):
            return DataElement(tag, vr, "" if vr not in _NUMBERS else None)
        return _dummy(tag, vr)

    def _unnamed(self, source: Dataset, tag: BaseTag, depth: int) -> DataElement | None:
        if tag in SEQUENCES:
            return self._sequence(source, tag, depth)
        if tag in CLEANED_TEXTS:
            return self._cleaned(source, tag)
        if tag in SCANNER_TEXTS:
            return self._worded(source, tag, _TEXT)
        if tag in GENERAL_CODES or tag.group in TECHNICAL_GROUPS:
            return self._technical(source, tag)
        return self._coded(source, tag) if tag in _CODED and depth else None

    def _technical(self, source: Dataset, tag: BaseTag) -> DataElement | None:
        try:
            vr = dictionary_VR(tag)
        except KeyError:
            return None
        if vr == "UI":
            return self._uid_element(source, tag)
        if vr == "CS":
            return self._worded(source, tag, _CODE)
        if vr in ("DS", "IS"):
            text = raw_text(source, tag)
            pattern = _DECIMAL if vr == "DS" else _WHOLE
            good = all(len(part) <= 16 and (pattern.fullmatch(part) or not part.strip()) for part in text.split("\\"))
            return DataElement(tag, vr, text.split("\\") if "\\" in text else text) if good else None
        element = source[tag]
        return DataElement(tag, element.VR, element.value) if element.VR in _NUMBERS else None

    def _uid_element(self, source: Dataset, tag: BaseTag) -> DataElement:
        found = [part.strip(" \0") for part in raw_text(source, tag).split("\\")]
        given = [one if one.startswith(_STANDARD_ROOT) else self._pseudonym(one) for one in found]
        return DataElement(tag, "UI", given if len(given) > 1 else given[0])

    def _pseudonym(self, original: str) -> str:
        new = self.rules.uid(original)
        if original:
            self.uids[new] = original
        return new

    def _worded(self, source: Dataset, tag: BaseTag, pattern: re.Pattern[str]) -> DataElement | None:
        """A text that stays when it has the right form and holds no word of the patient's identity."""
        parts = [part.strip(" \0") for part in raw_text(source, tag).split("\\")]
        kept = [part if pattern.fullmatch(part) and not self._identifies(part) else "" for part in parts]
        return DataElement(tag, dictionary_VR(tag), kept if len(kept) > 1 else kept[0])

    def _cleaned(self, source: Dataset, tag: BaseTag) -> DataElement | None:
        words = re.split(r"[^A-Za-z0-9.]+", value_text(source, tag).upper())
        kept = [word for word in words if word in DESCRIPTOR_WORDS or _SHORT_NUMBER.fullmatch(word)]
        vr = dictionary_VR(tag)
        text = " ".join(word for word in kept if not self._identifies(word))[: 16 if vr == "CS" else 64].strip()
        return DataElement(tag, vr, text) if text else None

    def _identifies(self, text: str) -> bool:
        found = text.upper()
        return found in self.words or any(word in self.words for word in re.split(r"[^A-Z0-9]+", found))

    def _sequence(self, source: Dataset, tag: BaseTag, depth: int) -> DataElement | None:
        if depth >= MAX_DEPTH:
            return None
        items = [self.build(item, depth + 1) for item in source[tag].value]
        return DataElement(tag, "SQ", Items([item for item in items if len(item)]))

    def _coded(self, source: Dataset, tag: BaseTag) -> DataElement | None:
        """A code of a published scheme; its meaning is the reader's to look up, for it is a person's words."""
        if text_of(source, "CodingSchemeDesignator") not in _SCHEMES:
            return None
        value = text_of(source, "CodeValue")
        if not re.fullmatch(r"[A-Z0-9-]{1,16}", value) or self._identifies(value):
            return None
        text = {0x00080100: value, 0x00080102: text_of(source, "CodingSchemeDesignator")}.get(tag, value)
        return DataElement(tag, dictionary_VR(tag), text)

    def pixels(self, source: Dataset) -> DataElement:
        """The pixel data as they are, without anything behind them."""
        element = source[_PIXELS]
        content = bytes(element.value)
        if self.syntax not in _NATIVE:
            kept = DataElement(_PIXELS, "OB", without_comments(content, self.syntax))
            kept.is_undefined_length = True
            return kept
        bits = int(source.BitsAllocated)
        samples = int(source.Rows) * int(source.Columns) * int(source.get("NumberOfFrames") or 1) * int(source.SamplesPerPixel)
        content = content[: samples * bits // 8]
        if bits == 16:
            order = ">" if self.syntax == ExplicitVRBigEndian else "<"
            values = np.frombuffer(content, dtype=f"{order}u2").astype("<u2")
            if _overlaid(source):
                values = _without_overlay_bits(values, source)
            content = values.tobytes()
        return DataElement(_PIXELS, "OW", content + b"\0" * (len(content) % 2))


def _dummy(tag: BaseTag, vr: str) -> DataElement | None:
    """A value of the right kind that says nothing; nothing at all where the kind has none."""
    dummies: dict[str, Any] = {"DA": "", "TM": "", "DT": "", "AS": "000Y", "UR": "http://removed.invalid", "DS": "0", "IS": "0"}
    if vr in _NUMBERS:
        return DataElement(tag, vr, 0)
    return DataElement(tag, vr, dummies.get(vr, "REMOVED"))


def _code_item(value: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item


def _syntax(source: Dataset) -> str:
    """The transfer syntax; that of a file without preamble is what it was read as."""
    stated = source.file_meta.get("TransferSyntaxUID")
    implicit, _ = source.original_encoding
    return str(stated or (ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian))


def _overlaid(source: Dataset) -> bool:
    """Whether a retired overlay lies in unused bits of the pixels."""
    return any(0x6000 <= tag.group <= 0x60FF and tag.element == 0x0102 and _int(source, tag) for tag in sorted(source.keys()))


def _int(source: Dataset, tag: BaseTag) -> int:
    value = source[tag].value
    return value if isinstance(value, int) else 1


def _without_overlay_bits(values: np.ndarray[Any, Any], source: Dataset) -> np.ndarray[Any, Any]:
    """Only the bits of the image itself, sign-extended where they are signed."""
    stored, high = int(source.BitsStored), int(source.HighBit)
    kind = np.int16 if int(source.PixelRepresentation) else np.uint16
    alone = (values << (15 - high)).astype("<u2").view(np.dtype(kind).newbyteorder("<")) >> (16 - stored)
    return (alone << (high + 1 - stored)).astype(np.dtype(kind).newbyteorder("<"))


def _written(built: Dataset, syntax: str, pixels: DataElement) -> bytes:
    built.add(pixels)
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = built.SOPClassUID
    meta.MediaStorageSOPInstanceUID = built.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax in _NATIVE else syntax
    meta.ImplementationClassUID = IMPLEMENTATION_UID
    meta.ImplementationVersionName = "BATCHONE"
    built.file_meta = meta
    target = io.BytesIO()
    dcmwrite(target, built, enforce_file_format=True)
    return target.getvalue()
