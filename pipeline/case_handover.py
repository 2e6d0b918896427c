"""A case is handed over to another site: ended here by a signed decision, and packed for the other site's inbox.

What goes is what a hospital sends: the order as it stands, and the de-identified study, in a parcel that is addressed to the
other site's release key and signed by ours. The other site makes, checks and approves its own device.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path

from batchone.pipeline.case_decisions import decide, known_case
from batchone.pipeline.case_order import ORDER
from batchone.pipeline.disk import reported
from batchone.pipeline.errors import InputError, OrderError, in_stage
from batchone.pipeline.hospital.deliver import deliver
from batchone.pipeline.hospital.parcel import Parcel
from batchone.pipeline.intake.handed_over import PARTNERS, RELEASE_LINE
from batchone.pipeline.intake.inbox import accept
from batchone.pipeline.intake.parcel_file import (
    MANIFEST,
    STUDY,
    SUFFIX,
    Entry,
    HandedOver,
    ParcelManifest,
    file_digest,
    member,
)
from batchone.pipeline.job.signature import HANDOVER, KEYS, SiteKey, fingerprint, read_allowed_signers, release_key, sign
from batchone.pipeline.job.withdrawal import OUTBOX, read_decisions
from batchone.pipeline.store import CaseFolder
from batchone.pipeline.values import Decision


@dataclass(frozen=True, slots=True)
class Given:
    """What became of a hand-over: the decision that counts, whether it is new, and where the case is now.

    ``place``: its folder at the other site, or the parcel in our outbox, to be brought there.
    """

    decision: Decision
    new: bool
    place: Path


def hand_over(site: Path, case_id: str, *, to: Path, who: str, reason: str, passphrase: str | None = None) -> Given:
    """Hand a case over; the same again, also after a crash at any moment, completes it and adds nothing.

    Parameters
    ----------
    to
        The other site's folder, where the case becomes one at once; or a file with the public line of its release key: the parcel
        then lies in ``<site>/outbox/``.
    who, reason, passphrase
        As in :func:`batchone.pipeline.case_decisions.decide`.

    Raises
    ------
    InputError
        The case cannot travel, the other site does not take it, or as :func:`decide` does.
    MachineError
        As :func:`decide` does, or a disk refuses.
    """
    case, key = known_case(site, case_id), release_key(site / KEYS)
    with in_stage(case_id, "hand-over"):
        addressee = _addressee(to)
        if addressee == fingerprint(key.public_key):
            raise OrderError("the other site is this one", hint="give the folder or the release key of another site")
        if not any(one.what == "hand-over" for one in read_decisions(case.path)):
            _refuse_staying(case)
            if to.is_dir():
                _refuse_unwelcome(to, case_id, key)
        decision, new = decide(site, case_id, "hand-over", who=who, reason=reason, to=addressee, passphrase=passphrase)
        parcel = _packed(site, case, decision, key)
        if not to.is_dir():
            return Given(decision, new, parcel.path)
        folder = accept(to, deliver(parcel, to).place).folder
        parcel.path.unlink(missing_ok=True)  # the other site has it whole; the same case makes the same parcel again
    return Given(decision, new, folder)


def _addressee(to: Path) -> str:
    line = to / KEYS / RELEASE_LINE if to.is_dir() else to
    try:
        return fingerprint(line.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"the other site's release key cannot be read: {line.name}", hint="give its folder, or its keys/release.pub as a file"
        ) from error


def _refuse_staying(case: CaseFolder) -> None:
    """What a parcel does not carry stays here, and is not lost in silence."""
    missing = [name for name in (ORDER, MANIFEST, STUDY) if not (case.path / name).exists()]
    if missing:
        raise OrderError(f"the case has no {', '.join(missing)}: it did not come by parcel", hint="submit it to the other site")
    if (case.path / "labels").is_dir():
        raise OrderError(
            "the case has labels that a person edited, which a parcel does not carry",
            hint="batchone segment CASE --export FILE, then --automatic; the other site takes the file with --labels",
        )


def _refuse_unwelcome(to: Path, case_id: str, key: SiteKey) -> None:
    """Nothing is ended here that the other site would not take."""
    if (to / "cases" / case_id).exists():
        raise OrderError(f"the other site has a case {case_id}", hint="ask there what it is")
    partners = read_allowed_signers(to / PARTNERS) if (to / PARTNERS).exists() else ()
    if fingerprint(key.public_key) not in {fingerprint(one.raw_key) for one in partners}:
        raise OrderError(
            f"the other site takes no cases from here: its {PARTNERS} does not name our release key",
            hint="let its people put the line of our keys/release.pub there",
        )


def _packed(site: Path, case: CaseFolder, decision: Decision, key: SiteKey) -> Parcel:
    """The parcel of a case, in the outbox: the same bytes each time."""
    told = json.loads((case.path / MANIFEST).read_bytes())
    names = (ORDER, *(f"{STUDY}/{path.name}" for path in sorted((case.path / STUDY).iterdir())))
    part = site / OUTBOX / f".{case.path.name}{SUFFIX}.part"
    entries = {}
    with reported("the parcel in the outbox"):
        part.parent.mkdir(exist_ok=True)
        with part.open("wb") as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as opened:
            for name in names:
                content = (case.path / name).read_bytes()
                opened.writestr(member(name), content)
                entries[name] = Entry(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
            given = HandedOver(to=decision.to, by=fingerprint(key.public_key), when=decision.time, reason=decision.reason)
            manifest = ParcelManifest(
                case=case.path.name,
                study_uid=told["study_uid"],
                images=told["images"],
                entries=entries,
                left_out=told["left_out"],
                warnings=tuple(told["warnings"]),
                handed_over=given,
            )
            signature = sign(key, manifest.handed(), namespace=HANDOVER)
            manifest = manifest.model_copy(update={"handed_over": given.model_copy(update={"signature": signature})})
            opened.writestr(member(MANIFEST), manifest.text())
        with part.open("rb") as written:
            os.fsync(written.fileno())
        digest = file_digest(part)
        place = part.with_name(f"{digest}{SUFFIX}")
        part.replace(place)
    return Parcel(place, digest, case.path.name, place.stat().st_size, manifest.images)
