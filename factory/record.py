"""The device record: what was made, of what, by whom, how it went and what was measured, from the first layer to the label.

A record is a folder ``records/<name>-<attempt>/``. When the print ends it holds ``as-built.json`` and the telemetry; people then
sign the steps after it one by one (``steps/NN.json``, each written once); when all are signed and everything measured lies within
its tolerance, ``record.json``, the label, ``SHA256SUMS`` and the cell's signature close it. A failed print is closed at once.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeVar

from pydantic import Field, SerializerFunctionWrapHandler, ValidationError, model_serializer

from batchone.factory.label import datamatrix_png, element_string
from batchone.factory.settings import Calibration, Lot
from batchone.pipeline.disk import disk, write_once
from batchone.pipeline.errors import InputError, MachineError
from batchone.pipeline.job.manifest import DISCLAIMER, Manifest, canonical_json
from batchone.pipeline.job.signature import (
    APPROVAL_PREFIX,
    DEMONSTRATOR,
    Signer,
    SiteKey,
    approval_key,
    embedded_signer,
    load_or_make_key,
    read_allowed_signers,
    safe_name,
    sign,
    verify,
)
from batchone.pipeline.job.sums import SUMS, SUMS_SIGNATURE, Digest, read_sums, sha256, sums_bytes
from batchone.pipeline.order import Model
from batchone.pipeline.store import flush_tree, sha256_file, write_atomic

AS_BUILT, RECORD, LABEL, STEPS = "as-built.json", "record.json", "label.png", "steps"
STEP_SPACE: Final = "batchone-production-step"  # SSHSIG namespace of a person's word on a step of production
RECORD_SPACE: Final = "batchone-device-record"  # SSHSIG namespace of a cell's word on a whole record

CELL_KEY: Final = "cell"  # file name of a cell's own key

Verdict = Literal["printed", "failed"]
Ending = Literal["released", "failed", "rejected", "withdrawn", "remade"]
Text = Annotated[str, Field(max_length=400)]


class Body(Model):
    """One part that was made: whose, of which job, and the digest of its mesh."""

    case: str
    job: str
    part: str
    stl_sha256: Digest


class Alarmed(Model):
    """A layer in which the machine noticed something."""

    layer: int
    alarms: tuple[str, ...]


class ValueSummary(Model):
    """One value of the telemetry while layers were made."""

    name: str
    readings: int
    least: float
    mean: float
    greatest: float


class Step(Model):
    """What is to be done or measured after the print; ``within_mm`` is the tolerance of a measure, null of what is done."""

    number: int
    what: str
    within_mm: float | None = None


class AsBuilt(Manifest):
    """``as-built.json``: one print, as it went. ``sums_sha256`` is the digest of the job folder's or plate's SHA256SUMS.

    ``simulated``: no material was melted. ``demonstration``: a job of it is approved for demonstration only. ``seconds`` are
    those of the machine. ``facts`` are what the process wants filled in, by its own names; those that nobody has filled in are
    missing.
    """

    schema_name: Annotated[Literal["batchone-as-built/1"], Field(alias="schema")] = "batchone-as-built/1"
    name: str
    attempt: int
    sums_sha256: Digest
    cell: str
    machine: str
    serial: str
    simulated: bool
    demonstration: bool
    bodies: tuple[Body, ...]
    process: str
    lot: Lot
    calibrations: tuple[Calibration, ...]
    started: dt.datetime
    ended: dt.datetime
    seconds: float
    energy_kwh: float
    layers: int
    layers_built: int
    alarmed: tuple[Alarmed, ...]
    telemetry: tuple[ValueSummary, ...]
    telemetry_sha256: Digest | None
    facts: dict[str, str]
    facts_wanted: tuple[str, ...]
    verdict: Verdict
    reason: str
    steps: tuple[Step, ...]
    disclaimer: str = DISCLAIMER


class SignedStep(Manifest):
    """``steps/NN.json``: a person's word on one step, over everything but ``public_key`` and ``signature``.

    ``measured_mm`` is what was measured of the step's face: the greatest deviation from the part as designed. ``rejected`` says
    why the part may not be used; where it may, the file does not have it, as those written before it was known.
    """

    schema_name: Annotated[Literal["batchone-step/1"], Field(alias="schema")] = "batchone-step/1"
    as_built_sha256: Digest
    number: int
    what: str
    name: str
    time: dt.datetime
    measured_mm: float | None
    note: Text = ""
    rejected: Text = ""
    public_key: str = ""
    signature: str = ""

    @model_serializer(mode="wrap")
    def _told(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        tree: dict[str, Any] = handler(self)
        return {key: value for key, value in tree.items() if key != "rejected" or value}

    def words(self) -> bytes:
        """What is signed."""
        return canonical_json(self.model_dump(mode="json", by_alias=True, exclude={"public_key", "signature"}))


class DeviceRecord(Manifest):
    """``record.json``: the whole, for the file of the device. ``udi`` is what the label holds; "" of what was not released."""

    schema_name: Annotated[Literal["batchone-record/1"], Field(alias="schema")] = "batchone-record/1"
    name: str
    attempt: int
    verdict: Ending
    reason: str
    closed: dt.datetime
    udi: str
    demonstration: bool
    as_built: AsBuilt
    steps: tuple[SignedStep, ...]
    disclaimer: str = DISCLAIMER


def read_as_built(record: Path) -> AsBuilt:
    """The print of a record.

    Raises
    ------
    MachineError
        It is not there or not valid.
    """
    return _read(AsBuilt, record / AS_BUILT)


def signed_steps(record: Path) -> tuple[SignedStep, ...]:
    """The steps that were signed so far, by number."""
    return tuple(_read(SignedStep, path) for path in sorted((record / STEPS).glob("*.json")))


def open_steps(record: Path) -> tuple[Step, ...]:
    """The steps that nobody has signed yet, in their order."""
    done = {step.number for step in signed_steps(record)}
    return tuple(step for step in read_as_built(record).steps if step.number not in done)


def sign_step(
    record: Path,
    number: int,
    *,
    who: str,
    keys: Path,
    when: dt.datetime,
    measured_mm: float | None = None,
    note: str = "",
    rejected: str = "",
) -> SignedStep:
    """Sign a step: the next one, once.

    Parameters
    ----------
    keys
        The folder of keys of those who sign here; the key of ``who`` is opened by its passphrase.
    measured_mm
        For a step with a tolerance, and for none other; a part that is rejected need not be measured.
    rejected
        Why the part may not be used; empty: the step is done and speaks against nothing.

    Raises
    ------
    InputError
        Another step is next, the part was rejected before, a measure is missing or too many, or a number that cannot be.
    MachineError
        The record is closed, somebody signed it at the same time, or the key cannot be opened.
    """
    if (record / RECORD).exists():
        raise MachineError(f"the record of {record.name} is closed", hint="a part that is made anew has a record of its own")
    left = open_steps(record)
    if not left or left[0].number != number:
        wanted = f"step {left[0].number}: {left[0].what}" if left else "none: all are signed"
        raise InputError(f"step {number} is not the next one; next is {wanted}", hint="steps are signed in their order")
    step, no = left[0], next((one for one in signed_steps(record) if one.rejected), None)
    if no is not None:
        raise InputError(f"the part was rejected in step {no.number}: {no.rejected}", hint="the cell closes its record")
    if not _is_measured(step, measured_mm, rejected):
        wanted = "none is measured" if step.within_mm is None else f"one within {step.within_mm:g} mm is measured"
        raise InputError(f"step {number} has measure {measured_mm}; {wanted}", hint=f"step {number}: {step.what}")
    if measured_mm is not None and not 0.0 <= measured_mm < 1000.0:
        raise InputError(f"measure is {measured_mm} mm, must be 0 to 1000 mm", hint="give the greatest deviation, without sign")
    key = approval_key(keys, who)
    built = sha256((record / AS_BUILT).read_bytes())
    said = SignedStep(
        as_built_sha256=built, number=number, what=step.what, name=who, time=when, measured_mm=measured_mm, note=note,
        rejected=rejected,
    )  # fmt: skip
    said = said.model_copy(update={"public_key": key.public_key, "signature": sign(key, said.words(), namespace=STEP_SPACE)})
    with disk():
        (record / STEPS).mkdir(exist_ok=True)
        write_once(record / STEPS / f"{number:02d}.json", said.to_bytes(), mode=0o644)
    if (record / STEPS / f"{number:02d}.json").read_bytes() != said.to_bytes():
        raise MachineError(f"step {number} was signed meanwhile", hint="see `batchone cell status`")
    return said


def close(
    record: Path, *, keys: Path, when: dt.datetime, gtin: str | None, withdrawn: str = "", remade: str = ""
) -> DeviceRecord | None:
    """Close a record when it can be: released, rejected by person or measure, or failed; None while steps or facts are open.

    ``withdrawn`` says why its job counts no more: then it is closed at once, whatever was signed. ``remade`` says who
    wants the part made once more: then it is closed too, as rejected where its steps say so.

    Raises
    ------
    MachineError
        Something in the record does not hold: a signature, or a digest.
    """
    if (record / RECORD).exists():
        return _read(DeviceRecord, record / RECORD)
    built = read_as_built(record)
    steps = signed_steps(record)
    _check_steps(record, built, steps, record_signers(keys))
    verdict, reason = _verdict(built, steps)
    if withdrawn and verdict != "failed":
        verdict, reason = "withdrawn", withdrawn
    elif remade and verdict in (None, "released"):
        verdict, reason = "remade", remade
    if verdict is None:
        return None
    udi = ""
    if verdict == "released":
        udi = element_string(gtin=gtin, produced=built.ended.date(), lot=built.lot.lot, serial=serial_of(built))
        write_atomic(record / LABEL, datamatrix_png(udi))
    whole = DeviceRecord(
        name=built.name,
        attempt=built.attempt,
        verdict=verdict,
        reason=reason,
        closed=when,
        udi=udi,
        demonstration=_is_demonstration(built, steps),
        as_built=built,
        steps=steps,
    )
    _seal(record, whole, load_or_make_key(keys, CELL_KEY))
    return whole


def serial_of(built: AsBuilt) -> str:
    """The serial number of what was made: job or plate, and attempt; 20 characters hold both."""
    return f"{built.name[:16]}-{built.attempt}"


def verify_record(record: Path, *, allowed: Sequence[Signer] | None) -> DeviceRecord:
    """Prove that a closed record is whole: signature, digests, every step's signature, and that it says what its files say.

    Parameters
    ----------
    allowed
        Who may sign as cell and as person; None: wholeness is proved with the keys inside, origin is not.

    Raises
    ------
    MachineError
        What does not hold.
    """
    sums = (record / SUMS).read_bytes()
    text = (record / SUMS_SIGNATURE).read_text(encoding="ascii")
    verify(text, sums, namespace=RECORD_SPACE, allowed=(embedded_signer(text),) if allowed is None else allowed)
    listed = read_sums(sums)
    there = {path.relative_to(record).as_posix() for path in record.rglob("*") if path.is_file()} - {SUMS, SUMS_SIGNATURE}
    if there != set(listed):
        odd = ", ".join(sorted(there ^ set(listed)))
        raise MachineError(f"record {record.name}: missing or extra: {odd}", hint="fetch the record again")
    for name, digest in listed.items():
        if sha256_file(record / name) != digest:
            raise MachineError(f"record {record.name}: {name} was changed", hint="fetch the record again")
    whole = _read(DeviceRecord, record / RECORD)
    built, steps = read_as_built(record), signed_steps(record)
    if (whole.as_built, whole.steps) != (built, steps):
        raise MachineError(f"record {record.name} does not say what its files say", hint="fetch the record again")
    _check_steps(record, built, steps, allowed)
    if whole.demonstration != _is_demonstration(built, steps):
        raise MachineError(f"record {record.name} does not say whether it is a demonstration", hint="ask the cell")
    if whole.verdict not in ("withdrawn", "remade") and _verdict(built, steps)[0] != whole.verdict:
        raise MachineError(f"record {record.name} is {whole.verdict}, which its steps do not say", hint="ask the cell")
    return whole


def record_signers(keys: Path) -> tuple[Signer, ...]:
    """Who signs records and steps, by the public halves in a cell's key folder; written there for others to verify with.

    Raises
    ------
    MachineError
        A public key cannot be read, or the folder cannot be written.
    """
    lines = []
    with disk():
        keys.mkdir(parents=True, exist_ok=True, mode=0o700)
    for path in sorted(keys.glob("*.pub")):
        space = RECORD_SPACE if path.stem == CELL_KEY else STEP_SPACE
        kind, key = path.read_text(encoding="utf-8").split()[:2]
        lines.append(f'{safe_name(path.stem)} namespaces="{space}" {kind} {key}\n')
    write_atomic(keys / "record_signers", "".join(lines).encode())
    return read_allowed_signers(keys / "record_signers")


def _is_measured(plan: Step, measured_mm: float | None, rejected: str) -> bool:
    """Whether a measure is given where one is taken, and nowhere else; of a part that is rejected it may be missing."""
    return (measured_mm is None and bool(rejected)) or (measured_mm is None) == (plan.within_mm is None)


def _verdict(built: AsBuilt, steps: tuple[SignedStep, ...]) -> tuple[Ending | None, str]:
    if built.verdict == "failed":
        return "failed", built.reason
    within = {step.number: step.within_mm for step in built.steps}
    for step in steps:
        if step.rejected:
            return "rejected", f"{step.what}: rejected by {step.name}: {step.rejected}"
        limit = within[step.number]
        if limit is not None and step.measured_mm is not None and step.measured_mm > limit:
            return "rejected", f"{step.what}: {step.measured_mm:g} mm, at most {limit:g} mm"
    if len(steps) < len(built.steps) or set(built.facts_wanted) - set(built.facts):
        return None, ""
    return "released", ""


def _check_steps(record: Path, built: AsBuilt, steps: tuple[SignedStep, ...], allowed: Sequence[Signer] | None) -> None:
    digest = sha256((record / AS_BUILT).read_bytes())
    names = [path.name for path in sorted((record / STEPS).glob("*.json"))]
    if [step.number for step in steps] != list(range(1, len(steps) + 1)) or names != [f"{s.number:02d}.json" for s in steps]:
        raise MachineError(f"steps of {record.name} are not 1 to {len(steps)}, each once", hint="ask who signed them")
    planned = {step.number: step for step in built.steps}
    if built.telemetry_sha256 is not None and sha256_file(record / "telemetry.parquet") != built.telemetry_sha256:
        raise MachineError(f"record {record.name}: the telemetry was changed", hint="fetch the record again")
    for step in steps:
        plan = planned.get(step.number)
        if plan is None or (step.as_built_sha256, step.what) != (digest, plan.what):
            raise MachineError(f"step {step.number} of {record.name} was signed for another print", hint="ask who signed it")
        signers = (embedded_signer(step.signature),) if allowed is None else allowed
        if not _is_measured(plan, step.measured_mm, step.rejected):
            raise MachineError(f"step {step.number} of {record.name} has measure {step.measured_mm}", hint="ask who signed it")
        signer = verify(step.signature, step.words(), namespace=STEP_SPACE, allowed=signers)
        if allowed is not None and signer != safe_name(APPROVAL_PREFIX + step.name):
            raise MachineError(
                f"step {step.number} of {record.name} says {step.name}, the key is that of {signer}", hint="ask who signed it"
            )


def _is_demonstration(built: AsBuilt, steps: tuple[SignedStep, ...]) -> bool:
    return built.simulated or built.demonstration or any(step.name == DEMONSTRATOR for step in steps)


def _seal(record: Path, whole: DeviceRecord, key: SiteKey) -> None:
    """``record.json`` last: a record that has it is closed."""
    data = whole.to_bytes()
    for leftover in [*record.glob(".*"), *record.glob(f"{STEPS}/.*")]:  # of a signature that a crash cut off
        leftover.unlink()
    files = sorted(
        path.relative_to(record).as_posix()
        for path in record.rglob("*")
        if path.is_file() and path.name not in (SUMS, SUMS_SIGNATURE)
    )
    digests = {name: sha256_file(record / name) for name in files} | {RECORD: sha256(data)}
    sums = sums_bytes(digests)
    write_atomic(record / SUMS, sums)
    write_atomic(record / SUMS_SIGNATURE, sign(key, sums, namespace=RECORD_SPACE).encode())
    with disk():
        flush_tree(record)
    write_atomic(record / RECORD, data)


_Read = TypeVar("_Read", bound=Manifest)


def _read(model: type[_Read], path: Path) -> _Read:
    try:
        data = path.read_bytes()
        found = model.model_validate_json(data)
    except OSError as error:
        raise MachineError(f"{path.name} cannot be read: {error.strerror}", hint="see `batchone cell status`") from error
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise MachineError(f"{path.name} is not valid: {where}: {fault['msg']}", hint="fetch the record again") from error
    if found.to_bytes() != data:
        raise MachineError(f"{path.name} is not in its canonical spelling", hint="fetch the record again")
    return found


def record_name(name: str, attempt: int) -> str:
    """The folder of an attempt."""
    return f"{safe_name(name)}-{attempt}"
