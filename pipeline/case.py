"""A whole case: the table of stages from an order and a study to a job folder, with the gate in the middle."""

from __future__ import annotations

import contextlib
import datetime as dt
import importlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from batchone.design.families import load_families
from batchone.design.family import CheckSet
from batchone.design.table_files import site_tables
from batchone.design.theatre import theatre
from batchone.pipeline import codec
from batchone.pipeline.approval import shown
from batchone.pipeline.case_answers import refuse_rejected
from batchone.pipeline.case_approval import approve, standing_approval
from batchone.pipeline.case_decisions import refuse_ended, settle
from batchone.pipeline.case_order import order_digest, read_case_order
from batchone.pipeline.case_waivers import waive, waivers_of
from batchone.pipeline.config import protocol_at, read_site_settings
from batchone.pipeline.editing.take import NEVER, edit_digest, load_edit
from batchone.pipeline.errors import BatchoneError, CheckFailed, InputError, MachineError, OrderError, in_stage
from batchone.pipeline.events import append_event
from batchone.pipeline.findings import LEVEL_CONFIRMED, number_words
from batchone.pipeline.intake.make import study_digest
from batchone.pipeline.job.signature import DEMONSTRATOR, release_key, write_allowed_signers
from batchone.pipeline.order import Order, order_text
from batchone.pipeline.preview import PREVIEW, keep_order, outdated
from batchone.pipeline.revisions import keep_revision
from batchone.pipeline.run import Inputs, Outcome, run_stage
from batchone.pipeline.stages import STAGES, Stage
from batchone.pipeline.store import CaseFolder, write_atomic
from batchone.pipeline.values import Approval, CheckedDevice, Finding, Waiver
from batchone.slicer.profiles import load_machine, load_process

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
    passphrase: str | None = None,
    ticked: tuple[str, ...] | None = None,
    until: str | None = None,
    checks: CheckSet = "release",
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
    passphrase
        Of the approver's key; None: of the environment, or asked for.
    ticked
        The points of the checklist that the approver ticked one by one; None: all of them at once.
    until
        Name of the last stage to run.
    checks
        ``interactive``: stop at the device with its interactive checks, on which nothing is released.
    progress
        Called with a stage's name when it starts (None) and with its outcome when it ends.

    Raises
    ------
    BatchoneError
        Stamped with case and stage.
    """
    with opened_case(order, study, site=site, progress=progress) as run:
        if approve_as is not None:
            run.refuse_rejected()
        for stage in STAGES:
            stopped = run.advance(stage, approve_as=approve_as, demonstration=demonstration, passphrase=passphrase, ticked=ticked)
            if stopped is not None:
                return run.result(stopped)
            if stage.gives == "Device" and checks == "interactive":
                return run.looked_at()
            if stage.name == until:
                return run.result("awaiting-level" if run.unnamed else "awaiting-approval")
        return run.result("done")


@contextlib.contextmanager
def opened_case(
    order: Order, study: Path | None, *, site: Path, progress: Progress = lambda stage, outcome: None
) -> Iterator[CaseRun]:
    """Hold a case for one process, to run its stages one at a time.

    Raises
    ------
    BatchoneError
        Stamped with the case: another process holds it, it was ended, its order is another, or what it needs is not there.
    """
    case = CaseFolder(case_folder(site, order.case))
    with case.locked():
        with in_stage(order.case, ""):
            refuse_ended(case)
        settle(case)
        _same_order(case, order)
        yield CaseRun(case, order.case, _inputs(case, order, study, site), site, progress)


class CaseRun:
    """A case that one process holds: its stages, one at a time, in the order of the table."""

    def __init__(self, case: CaseFolder, case_id: str, inputs: Inputs, site: Path, progress: Progress) -> None:
        self._case, self._id, self._inputs, self._site, self._progress = case, case_id, inputs, site, progress
        self._outcomes: list[Outcome] = []
        self._waivers: tuple[Waiver, ...] = ()
        self._seen: Outcome | None = None
        self._ahead = threading.Thread(target=_import_ahead)

    @property
    def unnamed(self) -> bool:
        """Whether a person must still say which level of the spine is meant."""
        return any(f.check == LEVEL_CONFIRMED and f.verdict == "fail" for o in self._outcomes for f in o.findings)

    def refuse_rejected(self) -> None:
        """Let nobody approve what a reviewer rejected; see :func:`batchone.pipeline.case_answers.refuse_rejected`."""
        with in_stage(self._id, "review"):
            refuse_rejected(self._case)

    def advance(
        self,
        stage: Stage,
        *,
        approve_as: str | None = None,
        demonstration: bool = False,
        passphrase: str | None = None,
        ticked: tuple[str, ...] | None = None,
    ) -> str | None:
        """Run one stage, or keep its earlier result; the earlier stages must have been advanced before.

        Returns
        -------
        str or None
            None while the case goes on; else what it waits for: ``awaiting-level``, ``awaiting-approval``.

        Raises
        ------
        BatchoneError
            Stamped with case and stage; told in the events.
        """
        try:
            return self._advance(stage, approve_as, demonstration, passphrase, ticked)
        except BatchoneError as error:
            with contextlib.suppress(BatchoneError, OSError):  # where the disk is what failed, the error itself is what is told
                record_event(self._case, "batchone", f"{stage.name} failed: {error}", meaning=error.hint)
            raise

    def _advance(
        self,
        stage: Stage,
        approve_as: str | None,
        demonstration: bool,
        passphrase: str | None,
        ticked: tuple[str, ...] | None,
    ) -> str | None:
        case, inputs = self._case, self._inputs
        self._progress(stage.name, None)
        if stage.kind == "gate":
            if self.unnamed:
                return "awaiting-level"
            approval = _gate(case, stage, inputs, self._waivers, approve_as, demonstration, passphrase, ticked, self._site)
            return "awaiting-approval" if approval is None else None
        if stage.gives == "JobFolder" and self._ahead.is_alive():
            self._ahead.join()  # as above
        outcome = run_stage(stage, case, inputs)
        self._outcomes.append(outcome)
        self._progress(stage.name, outcome)
        if not outcome.kept and stage.gives == "Scan":
            importlib.import_module("pydicom")  # others import it too: begun in two threads at once it stays half-made
            self._ahead.start()
        what, digest = f"{stage.name} done", inputs.digests[stage.gives]
        if not outcome.kept or not _told(case, what, digest):  # a process may die between a result and the word of it
            record_event(case, "batchone", what, digest=digest)
        if stage.gives == "Anatomy" and self.unnamed and not inputs["Anatomy"].bones:
            return "awaiting-level"
        if stage.gives == "Device" and outdated(case, digest):
            with contextlib.suppress(BatchoneError):  # the check, which is next, meets the same and says so
                self._preview()
        if stage.gives == "CheckedDevice":
            keep_revision(case, inputs.digests["Order"])
            waivers = waivers_of(case, inputs.digests["CheckedDevice"], self._site / "keys")
            checked: CheckedDevice = inputs["CheckedDevice"]
            self._refuse(stage, checked.failed(waivers), shown(checked.findings, waivers))
            self._waivers = waivers
        return None

    def _preview(self) -> Outcome:
        """Measure the device with the interactive checks, for people to look at."""
        self._progress(PREVIEW.name, None)
        outcome = run_stage(PREVIEW, self._case, self._inputs)
        keep_order(self._case, self._inputs.digests["Order"])
        self._progress(PREVIEW.name, outcome)
        self._seen = outcome
        return outcome

    def looked_at(self) -> Result:
        """The device with its interactive checks, as far as a run may go on them.

        Raises
        ------
        CheckFailed
            One of them failed.
        """
        outcome = self._seen or self._preview()  # of a changed device they are there
        self._outcomes.append(outcome)
        self._refuse(PREVIEW, tuple(f for f in outcome.findings if f.verdict == "fail"), outcome.findings)
        return self.result("awaiting-checks")

    def _refuse(self, stage: Stage, failed: tuple[Finding, ...], findings: tuple[Finding, ...]) -> None:
        if not failed:
            return
        first = failed[0]
        value = f"{first.what} is {number_words(first.value, 4)} {first.unit}, limit {first.limit}"
        hint = first.hint or "change a parameter with `batchone design CASE --set`, or the order"
        if stage is not PREVIEW and all(finding.waivable for finding in failed):
            hint = f"{hint}; with a reason: batchone review {self._id} --waive {first.check} --reason TEXT --as NAME"
        with in_stage(self._id, stage.name):
            raise CheckFailed(f"{len(failed)} of {len(findings)} checks failed; first: {value}", findings, hint=hint)

    def digest(self, stage: Stage) -> str:
        """Digest of what a stage that was advanced gave."""
        return self._inputs.digests[stage.gives]

    def result(self, status: str) -> Result:
        """What is reported of the run so far; with its job folder when ``status`` is ``done``."""
        findings = shown(tuple(f for o in self._outcomes for f in o.findings), self._waivers)
        seconds = {o.stage: (0.0 if o.kept else o.seconds) for o in self._outcomes}
        peak = max((o.peak_mb for o in self._outcomes), default=0.0)
        kept = tuple(o.stage for o in self._outcomes if o.kept)
        job = self._case.path / self._inputs["JobFolder"].folder if status == "done" else None
        return Result(self._id, status, job, seconds, findings, peak, kept)


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
        record_event(case, "batchone", "order received")


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
    inputs.give("Order", order, order_digest(order))
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


def _gate(
    case: CaseFolder,
    stage: Stage,
    inputs: Inputs,
    waivers: tuple[Waiver, ...],
    approve_as: str | None,
    demonstration: bool,
    passphrase: str | None,
    ticked: tuple[str, ...] | None,
    site: Path,
) -> Approval | None:
    """Find a valid approval, or make one; None when a person must still sign."""
    wanted = inputs.digests["CheckedDevice"]
    with in_stage(case.path.name, stage.name):
        in_earnest = approve_as not in (None, DEMONSTRATOR) and not demonstration
        approval = standing_approval(case, wanted, site / "keys", but_real=in_earnest)
        if approval is None:
            if approve_as is None:
                return None
            approval = approve(
                case,
                wanted,
                family=inputs["CheckedDevice"].device.family,
                who=approve_as,
                keys=site / "keys",
                waivers=waivers,
                demonstration=demonstration,
                passphrase=passphrase,
                ticked=ticked,
            )
    inputs.give("Approval", approval, codec.digest(approval))
    return approval


def waive_check(
    site: Path, order: Order, check: str, *, who: str, reason: str, passphrase: str | None = None, device: str | None = None
) -> None:
    """Let what failed in one check stand, with a person's signed reason; see :func:`batchone.pipeline.case_waivers.waive`."""
    case = CaseFolder(case_folder(site, order.case))
    with case.locked(), in_stage(order.case, "review"):
        refuse_ended(case)
        settle(case)
        limits, people = load_families()[order.device].limits, read_site_settings(site).people
        signed = partial(waive, case, check, who=who, reason=reason, passphrase=passphrase, device=device)
        signed(keys=site / "keys", limits=limits, people=people)


def _told(case: CaseFolder, what: str, digest: str) -> bool:
    """Whether the events of a case say that this came to be."""
    path = case.path / "events.jsonl"
    for line in reversed(path.read_bytes().splitlines() if path.exists() else []):
        with contextlib.suppress(ValueError):  # a torn line
            event = json.loads(line)
            if event.get("what") == what and event.get("digest") == digest:
                return True
    return False


def record_event(
    case: CaseFolder, who: str, what: str, *, meaning: str = "", digest: str = "", when: dt.datetime | None = None
) -> None:
    """Append to the events of a case; see :func:`batchone.pipeline.events.append_event`."""
    time = (when or dt.datetime.now(dt.UTC)).isoformat()
    append_event(case.path / "events.jsonl", who=who, what=what, when=time, meaning=meaning, digest=digest)


def failed_result(order_case: str, error: BatchoneError) -> Result:
    """The report of a case that stopped with an error."""
    return Result(order_case, "failed", None, {}, error.findings, 0.0)
