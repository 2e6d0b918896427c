"""The words that name a patient, a person or a place in a data set, and its values as text."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag
from pydicom.valuerep import PersonName

_NAMES: Final = (
    "PatientName", "OtherPatientNames", "PatientBirthName", "PatientMotherBirthName", "ReferringPhysicianName",
    "PerformingPhysicianName", "OperatorsName", "PhysiciansOfRecord", "NameOfPhysiciansReadingStudy", "RequestingPhysician",
    "ResponsiblePerson",
)  # fmt: skip
_PHRASES: Final = (
    "PatientID", "OtherPatientIDs", "AccessionNumber", "StudyID", "InstitutionName", "InstitutionalDepartmentName",
    "StationName", "DeviceSerialNumber", "MedicalRecordLocator", "AdmissionID", "PatientBirthDate",
)  # fmt: skip
_MIN_WORD = 3  # shorter parts of names are parts of ordinary words too


def identifying_words(source: Dataset) -> frozenset[str]:
    """The words, upper case, that name the patient, the people or the place: none of them may stand in what is kept."""
    return _words(tuple(text_of(source, name) for name in _NAMES), tuple(text_of(source, name) for name in _PHRASES))


@lru_cache(maxsize=64)
def _words(names: tuple[str, ...], phrases: tuple[str, ...]) -> frozenset[str]:
    found = {word for name in names for word in re.split(r"[\W_]+", name.upper())}
    found |= {part.upper() for phrase in phrases for part in (phrase, *phrase.split("\\"))}
    found |= {form for phrase in phrases for form in _date_forms(phrase)}
    return frozenset(word for word in found if len(word) >= (_MIN_WORD if word.isascii() else 2))


def _date_forms(text: str) -> tuple[str, ...]:
    if not re.fullmatch(r"\d{8}", text):
        return ()
    year, month, day = text[:4], text[4:6], text[6:]
    return (f"{year}-{month}-{day}", f"{day}.{month}.{year}", f"{day}/{month}/{year}", f"{month}/{day}/{year}")


def text_of(source: Dataset, keyword: str) -> str:
    """The value of an attribute as text, decoded; empty when absent."""
    element = source.get(Tag(keyword))
    return "" if element is None else _joined(element.value)


def value_text(source: Dataset, tag: BaseTag) -> str:
    """The value of an element that is there, as text, decoded."""
    return _joined(source[tag].value)


def _joined(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str | bytes | int | float | PersonName) or not hasattr(value, "__iter__"):
        return value.decode("latin-1").strip(" \0") if isinstance(value, bytes) else str(value).strip(" \0")
    return "\\".join(str(part) for part in value)


def raw_text(source: Dataset, tag: BaseTag) -> str:
    """The value as it stands in the file: numbers keep their digits, hence geometry its last bit."""
    raw = source.get_item(tag)
    value = raw.value if raw is not None else b""
    if isinstance(value, bytes):
        return value.decode("latin-1").strip(" \0")
    return _joined(value)
