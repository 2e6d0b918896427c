"""The way back: a verified job's DICOM objects, under the patient they belong to, into the hospital's archive."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from batchone.pipeline.disk import reported
from batchone.pipeline.errors import BatchoneError, InputError, MachineError
from batchone.pipeline.events import append_event, tell_site
from batchone.pipeline.hospital import store_scu, stow
from batchone.pipeline.hospital.original import Original, find_original, refuse_other_study, restored
from batchone.pipeline.hospital.stow import Answer, Payload
from batchone.pipeline.job.dicom_check import REPORT, SEGMENTATION, expected_names, read_object
from batchone.pipeline.job.manifest import JobManifest, read_manifest
from batchone.pipeline.job.sums import SUMS, sha256
from batchone.pipeline.job.verify import MANIFEST, verify_job

Kind = Literal["segmentation", "model", "report"]
KINDS: tuple[Kind, ...] = ("segmentation", "model", "report")
Target = stow.WebServer | store_scu.Peer
Progress = Callable[[int, int], None]
ACTOR = "batchone return"  # of the events


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of one object; ``to`` is the archive that took it, or the last that was tried."""

    file: str
    sop_class: str
    sop_instance: str
    to: str
    way: Literal["STOW-RS", "C-STORE"]
    stored: bool
    note: str = ""


@dataclass(frozen=True, slots=True)
class Returned:
    """What ``batchone return`` reports."""

    case: str
    job: str
    sent: tuple[Sent, ...]
    notes: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Every object was stored."""
        return all(one.stored for one in self.sent)


def give_back(
    job: Path,
    targets: Sequence[Target],
    *,
    keep: Path | None = None,
    without: Collection[str] = (),
    signers: Path | None = None,
    progress: Progress = lambda done, of: None,
) -> Returned:
    """Verify a job, put the hospital's own names and UIDs back, and store its objects.

    That it begins, and what became of it, stand in the events of the hospital's keep, or of the case where no keep knows it;
    where that cannot be written nothing is sent.

    Parameters
    ----------
    job
        The job folder.
    targets
        Archives in the order in which they are tried: what one does not take goes to the next.
    keep
        The hospital's keep; by default where ``batchone submit`` put it.
    without
        Kinds of object to leave out, of :data:`KINDS`.
    signers
        As for ``batchone verify``.
    progress
        Called with the objects stored so far and their number.

    Raises
    ------
    MachineError
        The job does not verify, no archive can be reached, or the events cannot be written.
    InputError
        Nothing leads the case back, or the job holds no DICOM objects.
    """
    manifest, notes = _verified(job, signers)
    if manifest.dicom is None:
        raise InputError(f"the job holds {manifest.dicom_note or 'no DICOM objects'}", hint="send its files by another way")
    original = find_original(job, manifest.case, keep)
    payloads = _payloads(job, manifest, original, without)
    outcome: dict[str, Sent] = {}
    names = ", ".join(target.name for target in targets)
    _event(original, job, manifest, f"{len(payloads)} objects are to be sent to {names}")
    try:
        notes = _send_all(payloads, targets, outcome, notes, progress)
    finally:
        stored = [one for one in outcome.values() if one.stored]
        by = "".join(f", by {name}" for name in sorted({one.to for one in stored}))
        _event(original, job, manifest, f"{len(stored)} of {len(payloads)} objects were stored{by}")
    return Returned(manifest.case, manifest.job, tuple(outcome[one.file] for one in payloads), notes)


def _send_all(
    payloads: Sequence[Payload], targets: Sequence[Target], outcome: dict[str, Sent], notes: tuple[str, ...], progress: Progress
) -> tuple[str, ...]:
    """Try one archive after the other; fills ``outcome`` and returns what there is to say."""
    for number, target in enumerate(targets):
        waiting = [one for one in payloads if not (one.file in outcome and outcome[one.file].stored)]
        if not waiting:
            break
        try:
            for sent in _send(target, waiting):
                outcome[sent.file] = sent
                progress(sum(one.stored for one in outcome.values()), len(payloads))
        except BatchoneError as error:
            if number + 1 == len(targets):
                raise
            notes = (*notes, f"{target.name}: {error}; {error.hint}")
    return notes


def _event(original: Original, job: Path, manifest: JobManifest, what: str) -> None:
    what, when = f"job {manifest.job} of case {manifest.case}: {what}", dt.datetime.now(dt.UTC).isoformat()
    with reported("the events of what is returned"):
        append_event(original.events, who=ACTOR, what=what, when=when, digest=sha256((job / SUMS).read_bytes()))
        tell_site(original.events.parent)


def _verified(job: Path, signers: Path | None) -> tuple[JobManifest, tuple[str, ...]]:
    report = verify_job(job, signers=signers)
    if not report.ok:
        first = report.problems[0]
        raise MachineError(
            f"the job does not verify: {len(report.problems)} problems, must be 0; {first.kind}: {first.file}: {first.text}",
            hint="fetch the job folder again from the site",
        )
    return read_manifest((job / MANIFEST).read_bytes()), report.notes


def _payloads(job: Path, manifest: JobManifest, original: Original, without: Collection[str]) -> list[Payload]:
    if manifest.dicom is None:
        raise AssertionError("a job without DICOM objects was verified as one with them")
    names = [name for name in expected_names(manifest) if _kind(name) not in without]
    if not names:
        raise InputError("nothing is left to send: every kind of object is left out", hint="give fewer --without")
    refuse_other_study(original, manifest.dicom)
    payloads = []
    for name in names:
        data = restored((job / name).read_bytes(), original, manifest.dicom)
        item = read_object(data)
        payloads.append(Payload(name, str(item.SOPClassUID), str(item.SOPInstanceUID), data))
    return payloads


def _kind(name: str) -> Kind:
    return "segmentation" if name == SEGMENTATION else "report" if name == REPORT else "model"


def _send(target: Target, payloads: Sequence[Payload]) -> Iterator[Sent]:
    if isinstance(target, stow.WebServer):
        with stow.web_client(target) as client:
            for one in payloads:
                yield _sent(one, target, "STOW-RS", stow.store(client, one))
        return
    classes = tuple(dict.fromkeys(one.sop_class for one in payloads))
    with store_scu.association(target, classes) as made:
        for one in payloads:
            yield _sent(one, target, "C-STORE", store_scu.store(made, one))


def _sent(payload: Payload, target: Target, way: Literal["STOW-RS", "C-STORE"], answer: Answer) -> Sent:
    return Sent(payload.file, payload.sop_class, payload.sop_instance, target.name, way, answer.stored, answer.note)
