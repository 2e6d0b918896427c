"""A whole case: the table of stages from an order and a study to a job folder, with the gate in the middle."""

from __future__ import annotations

import contextlib
import datetime as dt
import importlib
import json
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batchone.design.families import load_families
from batchone.design.table_files import site_tables
from batchone.design.theatre import theatre
from batchone.pipeline import codec
from batchone.pipeline.approval import shown
from batchone.pipeline.case_waivers import waive, waivers_of
from batchone.pipeline.config import protocol_at, read_site_settings
from batchone.pipeline.disk import reported
from batchone.pipeline.editing.export import labels_file
from batchone.pipeline.editing.take import NEVER, edit_digest, load_edit, put_edit, read_edit, remove_edit
from batchone.pipeline.errors import BatchoneError, CheckFailed, InputError, MachineError, OrderError, in_stage
from batchone.pipeline.events import append_event
from batchone.pipeline.findings import LEVEL_CONFIRMED
from batchone.pipeline.intake.make import study_digest
from batchone.pipeline.job.signature import (
    approval_key,
    release_key,
    sign_approval,
    verify_approval,
    verify_waivers,
    write_allowed_signers,
)
from batchone.pipeline.markups.order_file import read_order_file
from batchone.pipeline.order import Order, order_text, with_word, without_word
from batchone.pipeline.run import Inputs, Outcome, run_stage
from batchone.pipeline.stages import STAGES, Stage
from batchone.pipeline.store import CaseFolder, write_atomic
from batchone.pipeline.values import Approval, CheckedDevice, Finding, JobFolder, Waiver
from batchone.segment.confirmed import from_above, with_levels
from batchone.slicer.profiles import load_machine, load_process

MEANING = "I have reviewed this device against its findings and release it for manufacture"
Progress = Callable[[str, Outcome | None], None]


@dataclass(frozen=True, slots=True)
class Result:
    """What ``batchone run`` reports."""

    case: str
    status: str
    job: Path | None
    stages: dict[str, float]
    findings: tuple[Finding, ...]
    peak_mb: float
    kept: tuple[str, ...] = ()


@dataclass
class _Tally:
    outcomes: list[Outcome] = field(default_factory=list)
    waivers: tuple[Waiver, ...] = ()

    @property
    def unnamed(self) -> bool:
        """Whether a person must still say which level of the spine is meant."""
        return any(f.check == LEVEL_CONFIRMED and f.verdict == "fail" for o in self.outcomes for f in o.findings)

    def result(self, case: str, status: str, job: Path | None) -> Result:
        findings = shown(tuple(f for o in self.outcomes for f in o.findings), self.waivers)
        seconds = {o.stage: (0.0 if o.kept else o.seconds) for o in self.outcomes}
        peak = max((o.peak_mb for o in self.outcomes), default=0.0)
        return Result(case, status, job, seconds, findings, peak, tuple(o.stage for o in self.outcomes if o.kept))


def read_case_order(path: Path) -> Order:
    """Read an order, with the markups that its plan names, against the families that are installed."""
    return read_order_file(path, {name: family.parameters for name, family in load_families().items()})


def case_folder(site: Path, case: str) -> Path:
    """Where a case lies in a site."""
    return site / "cases" / case


def run_case(
    order: Order,
    study: Path | None,
    *,
    site: Path,
    approve_as: str | None = None,
    demonstration: bool = False,
    until: str | None = None,
    progress: Progress = lambda stage, outcome: None,
) -> Result:
    """Take a case as far as it goes: to a job folder, or to the person who must approve it.

    Parameters
    ----------
    order
        The validated order.
    study
        DICOM folder, zip or volume file; None continues from the results that the case folder holds.
    site
        The site's folder; keys lie in ``<site>/keys``, its settings in ``<site>/site.toml``.
    approve_as
        Who approves; None stops before slicing.
    demonstration
        Marks the approval as a demonstration.
    until
        Name of the last stage to run.
    progress
        Called with a stage's name when it starts (None) and with its outcome when it ends.

    Raises
    ------
    BatchoneError
        Stamped with case and stage.
    """
    case = CaseFolder(case_folder(site, order.case))
    with case.locked():
        _same_order(case, order)
        inputs = _inputs(case, order, study, site)
        tally = _Tally()
        for stage in STAGES:
            progress(stage.name, None)
            if stage.kind == "gate" and tally.unnamed:
                return tally.result(order.case, "awaiting-level", None)
            if stage.kind == "gate":
                approval = _gate(case, stage, inputs, tally.waivers, approve_as, demonstration, site)
                if approval is None:
                    return tally.result(order.case, "awaiting-approval", None)
                continue
            outcome = run_stage(stage, case, inputs)
            tally.outcomes.append(outcome)
            progress(stage.name, outcome)
            if not outcome.kept:
                if stage.gives == "Scan":
                    threading.Thread(target=_import_ahead).start()
                _event(case, "batchone", f"{stage.name} done", digest=inputs.digests[stage.gives])
            if stage.gives == "Anatomy" and tally.unnamed and not inputs["Anatomy"].bones:
                return tally.result(order.case, "awaiting-level", None)
            if stage.gives == "CheckedDevice":
                waivers = waivers_of(case, inputs.digests["CheckedDevice"], site / "keys")
                _require_release(inputs["CheckedDevice"], waivers, order.case)
                tally.waivers = waivers
            if stage.name == until:
                return tally.result(order.case, "awaiting-level" if tally.unnamed else "awaiting-approval", None)
        job: JobFolder = inputs["JobFolder"]
        return tally.result(order.case, "done", case.path / job.folder)


def _import_ahead() -> None:
    """Load what later stages need beside the first ones: these take a second or more each, much of it outside of Python."""
    for name in ("cadquery", "highdicom"):
        with contextlib.suppress(ImportError, RuntimeError):  # the stage that needs it says so; the run ended meanwhile
            importlib.import_module(name)


def _same_order(case: CaseFolder, order: Order) -> None:
    path = case.path / "order.toml"
    if path.exists() and read_case_order(path) != order:
        raise OrderError(
            f"case {order.case} exists with another order",
            hint="give the new order another case id, or change this one with `batchone design CASE --set` or `--markups`",
        )
    if not path.exists():
        write_atomic(path, order_text(order).encode())
        _event(case, "batchone", "order received")


def replace_order(case: CaseFolder, order: Order, who: str) -> None:
    """Put a changed order in place and say so in the events."""
    write_atomic(case.path / "order.toml", order_text(order).encode())
    _event(case, who, "order changed", digest=codec.tree_digest(json.loads(order.model_dump_json())))


def confirm_levels(site: Path, order: Order, settings: Sequence[str], *, who: str) -> Order:
    """Take a person's word on the level of counted vertebrae (``vertebra-4=T9``) into a case's order and its events.

    Raises
    ------
    InputError
        The case has no labels yet, or the word contradicts itself or what the scan shows.
    """
    case = CaseFolder(case_folder(site, order.case))
    with case.locked(), in_stage(order.case, "segment"):
        record = case.record("segment")
        labels = None if record is None else case.load("segment").labels
        if record is None or labels is None:
            raise InputError("the case has no labels yet", hint="run it with --study: it stops with the numbered picture")
        if record["taken"].get("Edit") != (edit_digest(case) or codec.digest(NEVER)):
            raise InputError("the labels are newer than the numbered picture", hint="run `batchone segment CASE` and look again")
        changed = with_word(order, settings, counted=len(from_above(labels)), who=who)
        with_levels(labels, changed.target)
        said = ", ".join(f"{counted} is {level}" for counted, level in changed.target.levels.items())
        _event(case, who, f"level confirmed: {said}", meaning="compared with the patient's records")
        replace_order(case, changed, who)
    return changed


def take_labels(site: Path, order: Order, file: Path, *, who: str) -> Order:
    """Make a person's labels an input of a case, and say so in its events.

    Returns
    -------
    Order
        Without a word on the level of counted vertebrae: the count may be another one now.

    Raises
    ------
    InputError
        The case has no scan yet, or the labels do not belong to it, or lack what is ordered.
    """
    case = CaseFolder(case_folder(site, order.case))
    with case.locked(), in_stage(order.case, "segment"):
        if case.record("intake") is None:
            raise InputError("the case has no scan yet", hint="run it with --study")
        known = case.load("segment").labels.labels if case.record("segment") is not None else ()
        freed = without_word(order)
        edit = read_edit(file, case.load("intake"), known, freed, who=who)
        _free_levels(case, order, freed, who)  # first: an old count must never meet new labels
        put_edit(case, edit)
        _event(case, who, "labels edited", meaning="bones as a person drew them", digest=edit.file_sha256)
    return freed


def drop_labels(site: Path, order: Order, *, who: str) -> Order:
    """Go back to the labels of the backend, and say so in the events; the order comes back as from :func:`take_labels`."""
    case = CaseFolder(case_folder(site, order.case))
    with case.locked():
        if edit_digest(case) is None:
            return order
        freed = without_word(order)
        _free_levels(case, order, freed, who)
        remove_edit(case)
        _event(case, who, "edited labels dropped")
    return freed


def _free_levels(case: CaseFolder, order: Order, freed: Order, who: str) -> None:
    if freed != order:
        _event(case, who, "confirmed level dropped", meaning="the vertebrae may be counted otherwise now")
        replace_order(case, freed, who)


def export_labels(site: Path, order: Order, file: Path) -> None:
    """Write all labels of a segmented case as a DICOM segmentation that refers to the scan's images by their pseudonyms.

    Raises
    ------
    InputError
        The case is not segmented, or its scan came from no DICOM images.
    """
    case = CaseFolder(case_folder(site, order.case))
    with case.locked(), in_stage(order.case, "segment"):
        record = case.record("segment")
        if record is None:
            raise InputError("the case has no labels yet", hint="run it with --study")
        data = labels_file(
            case.load("intake"), case.load("segment"), record, order, public_key=release_key(site / "keys").public_key
        )
        with reported(file.name):
            write_atomic(file, data)


def _inputs(case: CaseFolder, order: Order, study: Path | None, site: Path) -> Inputs:
    family = load_families()[order.device]
    process, machine = load_process(order.process, site), load_machine(order.machine, site)
    if order.process not in machine.processes:
        raise MachineError(
            f"machine {machine.name} does not run {order.process}; it runs {', '.join(machine.processes)}",
            hint="choose another machine or process in the order",
        )
    tables = site_tables(site)
    theatre(order, tables)  # an instrument that nobody knows is refused before anything runs
    key = release_key(site / "keys")
    write_allowed_signers(site / "keys")
    inputs = Inputs()
    inputs.give("Order", order, codec.tree_digest(json.loads(order.model_dump_json())))
    settings = read_site_settings(site)
    write_atomic(case.path / "site.json", (settings.model_dump_json(indent=1) + "\n").encode())
    write_atomic(case.path / "tables.json", (tables.model_dump_json(indent=1) + "\n").encode())
    protocol = protocol_at(settings, family.limits.protocol)
    for name, model in (("Protocol", protocol), ("Process", process), ("Machine", machine), ("Tables", tables)):
        inputs.give(name, model, codec.tree_digest(json.loads(model.model_dump_json())))
    inputs.give("SiteKey", key, codec.tree_digest(key.public_key))
    backend = settings.segmentation
    inputs.give("Segmentation", backend, codec.tree_digest(json.loads(backend.model_dump_json())))
    inputs.give_lazily("Edit", lambda: load_edit(case), edit_digest(case) or codec.digest(NEVER))
    _give_study(case, inputs, study)
    return inputs


def _give_study(case: CaseFolder, inputs: Inputs, study: Path | None) -> None:
    record = case.record("intake")
    known = record["taken"]["Study"] if record else None
    if study is None:
        if known is None:
            raise InputError("the case has no scan yet", hint="run it with --study")
        inputs.give_lazily("Study", _no_study, known)
        return
    if not study.exists():
        raise InputError("the study does not exist", hint="check the path given with --study")
    digest = study_digest(study)
    if known is not None and known != digest:
        raise InputError(
            f"case {case.path.name} exists with another study (digest {known[:12]}, now {digest[:12]})",
            hint="give the order another case id",
        )
    inputs.give("Study", study, digest)


def _no_study() -> Path:
    raise InputError("the scan of this case must be read again", hint="run the case with --study")


def _require_release(checked: CheckedDevice, waivers: tuple[Waiver, ...], case_id: str) -> None:
    failed = checked.failed(waivers)
    if not failed:
        return
    first = failed[0]
    value = f"{first.what} is {first.value:.4g} {first.unit}, limit {first.limit}"
    hint = first.hint or "change a parameter with `batchone design CASE --set`, or the order"
    if all(finding.waivable for finding in failed):
        hint = f"{hint}; with a reason: batchone review {case_id} --waive {first.check} --reason TEXT --as NAME"
    with in_stage(case_id, "check"):
        raise CheckFailed(
            f"{len(failed)} of {len(checked.findings)} checks failed; first: {value}", shown(checked.findings, waivers), hint=hint
        )


def _gate(
    case: CaseFolder,
    stage: Stage,
    inputs: Inputs,
    waivers: tuple[Waiver, ...],
    approve_as: str | None,
    demonstration: bool,
    site: Path,
) -> Approval | None:
    """Find a valid approval, or make one; None when a person must still sign."""
    wanted = inputs.digests["CheckedDevice"]
    with in_stage(case.path.name, stage.name):
        record = case.record(stage.name)
        if record is not None and record["taken"] == {"CheckedDevice": wanted} and case.intact(stage.name, record):
            approval: Approval = case.load(stage.name)
            verify_approval(approval, site / "keys")
            verify_waivers(approval, site / "keys")
            if approval.digest != wanted:
                raise MachineError("the approval is for another device", hint="remove the case's review folder and approve again")
        elif approve_as is None:
            return None
        else:
            approval = _sign(approve_as, wanted, waivers, demonstration, site)
            _publish_approval(case, stage, approval)
            _event(case, approve_as, "approved", meaning=approval.meaning, digest=wanted, when=approval.time)
    inputs.give("Approval", approval, codec.digest(approval))
    return approval


def _sign(name: str, digest: str, waivers: tuple[Waiver, ...], demonstration: bool, site: Path) -> Approval:
    key = approval_key(site / "keys", name)
    write_allowed_signers(site / "keys")
    time = dt.datetime.now(dt.UTC).replace(microsecond=0)
    approval = Approval(name, time, MEANING, digest, key.public_key, demonstration=demonstration, waivers=waivers)
    return sign_approval(approval, key)


def _publish_approval(case: CaseFolder, stage: Stage, approval: Approval) -> None:
    def write(folder: Path) -> dict[str, Any]:
        digest = codec.save(approval, folder)
        taken = {"CheckedDevice": approval.digest}
        return {"stage": stage.name, "version": stage.version, "taken": taken, "value_digest": digest}

    case.publish(stage.name, write)


def waive_check(site: Path, order: Order, check: str, *, who: str, reason: str) -> None:
    """Let what failed in one check stand, with a person's signed reason; see :func:`batchone.pipeline.case_waivers.waive`."""
    case = CaseFolder(case_folder(site, order.case))
    with case.locked(), in_stage(order.case, "review"):
        limits, people = load_families()[order.device].limits, read_site_settings(site).people
        for waiver in waive(case, check, who=who, reason=reason, keys=site / "keys", limits=limits, people=people):
            what = f"waived: {waiver.finding}; reason: {waiver.reason}"
            _event(case, who, what, meaning=waiver.meaning, digest=waiver.digest, when=waiver.time)


def return_case(case: CaseFolder, *, who: str, why: str) -> None:
    """Record that a reviewer sent the device back."""
    with case.locked():
        _event(case, who, f"returned: {why}", meaning="not released")


def reject_case(case: CaseFolder, *, who: str, why: str) -> None:
    """Record that a reviewer ended the case: no device is made of it."""
    with case.locked():
        when = dt.datetime.now(dt.UTC).isoformat()
        append_event(case.path / "events.jsonl", who=who, what=f"rejected: {why}", when=when, meaning="not released, ended")


def sign_case(site: Path, case_id: str, *, who: str, device: str) -> Approval:
    """Sign the approval of the CheckedDevice of a digest, as the person has seen it, and go no further: the next run does.

    Returns the approval that counts: an earlier one of the same device where there is one.

    Raises
    ------
    InputError
        The case has no checked device, another one than was seen, or a level that nobody confirmed.
    CheckFailed, MachineError
        The device breaks a requirement that nobody waived; another process works on the case, or a key cannot be used.
    """
    case = CaseFolder(case_folder(site, case_id))
    with case.locked(), in_stage(case_id, "review"):
        record, named = case.record("check"), case.record("segment")
        found = None if record is None else record["value_digest"]
        if found != device:
            raise InputError(
                f"the device that was seen is {device[:12]}, that of the case is {(found or 'none')[:12]}",
                hint="look at it again",
            )
        told = [] if named is None else named["findings"]["$tuple"]
        if any(f["check"] == LEVEL_CONFIRMED and f["verdict"] == "fail" for f in told):
            raise InputError("nobody has confirmed the level", hint="confirm it with `batchone segment CASE --level`")
        inputs = Inputs()
        inputs.give_lazily("CheckedDevice", lambda: case.load("check"), device)
        waivers = waivers_of(case, device, site / "keys")
        _require_release(inputs["CheckedDevice"], waivers, case_id)
        stage = next(stage for stage in STAGES if stage.kind == "gate")
        approval = _gate(case, stage, inputs, waivers, who, False, site)
    assert approval is not None
    return approval


def _event(
    case: CaseFolder, who: str, what: str, *, meaning: str = "", digest: str = "", when: dt.datetime | None = None
) -> None:
    time = (when or dt.datetime.now(dt.UTC)).isoformat()
    append_event(case.path / "events.jsonl", who=who, what=what, when=time, meaning=meaning, digest=digest)


def failed_result(order_case: str, error: BatchoneError) -> Result:
    """The report of a case that stopped with an error."""
    findings = error.findings if isinstance(error, CheckFailed) else ()
    return Result(order_case, "failed", None, {}, findings, 0.0)
