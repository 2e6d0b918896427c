"""The parcel: the one file in which a de-identified study and its order travel, and how it is checked before it is believed.

A parcel is a stored (uncompressed) zip of ``order.toml`` (optional), ``study/000001.dcm`` and so on, and ``parcel.json`` with
the digest of each; its own name is the SHA-256 of its bytes.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from batchone.pipeline.disk import reported
from batchone.pipeline.errors import InputError
from batchone.pipeline.intake.package import MAX_FILES
from batchone.pipeline.order import CaseId, Model

SUFFIX = ".batchone"
MANIFEST, ORDER, STUDY = "parcel.json", "order.toml", "study"
MAX_PARCEL_BYTES = 2_000_000_000  # project default: the largest series of 1 GB and its neighbour
MAX_MANIFEST_BYTES = 4_000_000  # 6,000 entries of about 130 characters, five times
BLOCK_BYTES = 1 << 20
_IMAGE = re.compile(rf"{STUDY}/[0-9]{{6}}\.dcm")

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Text = Annotated[str, Field(max_length=400)]
Fingerprint = Annotated[str, Field(pattern=r"^SHA256:[A-Za-z0-9+/]{43}$")]


class Entry(Model):
    """One file of a parcel."""

    sha256: Digest
    bytes: Annotated[int, Field(ge=1, le=MAX_PARCEL_BYTES)]


class HandedOver(Model):
    """Of a case that another site gives away: to whom and by whom (fingerprints of release keys), when, and why.

    ``signature``: of the giving site's release key, an armoured SSH signature over :meth:`ParcelManifest.handed`.
    """

    to: Fingerprint
    by: Fingerprint
    when: dt.datetime
    reason: Text
    signature: Annotated[str, Field(max_length=2000)] = ""


class ParcelManifest(Model):
    """``parcel.json``: what a parcel holds, and what only the hospital can know of the study.

    ``study_uid`` is the pseudonym; ``left_out`` counts what was not sent, by kind; ``handed_over`` is there where the case comes
    from another site.
    """

    schema_version: Literal[1] = 1
    case: CaseId
    study_uid: Annotated[str, Field(pattern=r"^2\.25\.[0-9]{1,39}$")]
    images: Annotated[int, Field(ge=1, le=MAX_FILES)]
    entries: Annotated[dict[str, Entry], Field(max_length=MAX_FILES + 1)]
    left_out: dict[Text, int] = Field(default_factory=dict)
    warnings: Annotated[tuple[Text, ...], Field(strict=False, max_length=64)] = ()

    handed_over: HandedOver | None = None

    def text(self) -> bytes:
        """The bytes of ``parcel.json``."""
        absent = {"handed_over"} if self.handed_over is None else None
        return self.model_dump_json(indent=1, exclude=absent).encode() + b"\n"

    def handed(self) -> bytes:
        """The bytes that the giving site signs: all of it but the signature."""
        return self.model_dump_json(exclude={"handed_over": {"signature"}}).encode()


def study_case(study_uid: str) -> str:
    """The case id of a study that comes without an order, from its pseudonymous UID."""
    return f"study-{hashlib.sha256(study_uid.encode()).hexdigest()[:12]}"


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@contextmanager
def opened_parcel(path: Path) -> Iterator[tuple[zipfile.ZipFile, ParcelManifest]]:
    """Open a parcel and check everything about it but the contents of its entries.

    Raises
    ------
    InputError
        It is no parcel, breaks a limit, or holds anything that its ``parcel.json`` does not name.
    MachineError
        The file cannot be read.
    """
    size = refuse_too_large(path)
    try:
        with reported("the parcel"), zipfile.ZipFile(path) as opened:
            yield opened, _checked(opened, size)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        raise damaged("is no whole zip") from error


def refuse_too_large(path: Path) -> int:
    """The size of a parcel in bytes.

    Raises
    ------
    InputError
        It is beyond the limit.
    """
    with reported("the parcel"):
        size = path.stat().st_size
    if size > MAX_PARCEL_BYTES:
        raise InputError(
            f"the parcel is {size / 1e6:.0f} MB, at most {MAX_PARCEL_BYTES / 1e6:.0f} MB",
            hint="send the part of the body that is needed",
        )
    return size


def read_entry(opened: zipfile.ZipFile, name: str, entry: Entry) -> Iterator[bytes]:
    """The content of an entry in blocks; its digest is checked at the end.

    Raises
    ------
    InputError
        The content is not what ``parcel.json`` says.
    """
    running = hashlib.sha256()
    with opened.open(name) as stream:
        while block := stream.read(BLOCK_BYTES):
            running.update(block)
            yield block
    if running.hexdigest() != entry.sha256:
        raise damaged(f"holds another {name} than its parcel.json says")


def member(name: str) -> zipfile.ZipInfo:
    """An entry without clock, owner or system in it."""
    made = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    made.create_system = 3
    made.external_attr = 0o600 << 16
    return made


def damaged(what: str) -> InputError:
    """The refusal of a parcel that is not whole."""
    return InputError(f"the parcel {what}", hint="send it again with `batchone submit`; the sender's keep holds it whole")


def _checked(opened: zipfile.ZipFile, size: int) -> ParcelManifest:
    members = opened.infolist()
    if len(members) > MAX_FILES + 2:
        raise InputError(f"the parcel has {len(members)} entries, at most {MAX_FILES + 2}", hint="send one examination")
    sizes = {member.filename: member.file_size for member in members}
    if len(sizes) < len(members):
        raise damaged("has two entries of one name")
    if any(m.compress_type != zipfile.ZIP_STORED or m.flag_bits & 0x1 or m.file_size != m.compress_size for m in members):
        raise damaged("has a packed or encrypted entry, all must be stored")
    if sum(sizes.values()) > size:
        raise damaged("states more bytes than it has")
    manifest = _manifest(opened, sizes)
    if {name: entry.bytes for name, entry in manifest.entries.items()} != {k: v for k, v in sizes.items() if k != MANIFEST}:
        raise damaged("does not hold exactly the files that its parcel.json names")
    images = sum(1 for name in manifest.entries if _IMAGE.fullmatch(name))
    if images != manifest.images or set(manifest.entries) - {ORDER} != {f"{STUDY}/{k:06d}.dcm" for k in range(1, images + 1)}:
        raise damaged("names its files otherwise than study/000001.dcm, study/000002.dcm...")
    return manifest


def _manifest(opened: zipfile.ZipFile, sizes: dict[str, int]) -> ParcelManifest:
    stated = sizes.get(MANIFEST)
    if stated is None or stated > MAX_MANIFEST_BYTES:
        raise damaged(f"has a parcel.json of {stated or 0} bytes, must be 1 to {MAX_MANIFEST_BYTES} bytes")
    try:
        return ParcelManifest.model_validate_json(opened.read(MANIFEST))
    except ValidationError as error:
        raise damaged(f"has a parcel.json with {error.error_count()} faults, must be 0") from None
