"""Is the record of a site whole? Chains of events, their heads in ``stage.json`` and in the site's events, signatures.

What is found: a changed, removed or swapped line; a tail that was cut off, as soon as a stage or the site's events name a line of
it; a case that is gone; an approval or a waiver whose signature does not hold, or that no event tells of; a device record that is
gone, another one, or not whole. The chains are digests
without a secret: one who may write everything can write all of it anew, so note the site's head elsewhere (a backup holds it).
21 CFR 11.10(e), 11.50, 11.70.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from batchone.factory.dispatch import RECORDS
from batchone.pipeline.case_answers import MEANINGS, SAID
from batchone.pipeline.case_approval import GATE
from batchone.pipeline.case_waivers import FOLDER as WAIVERS
from batchone.pipeline.errors import MachineError, UnknownCaseError
from batchone.pipeline.events import BEGUN_ANEW, CASES, EVENTS, REMOVED, SHELVED, START, TAKEN_AWAY, Chain, Event, read_chain
from batchone.pipeline.job.signature import KEYS, verify_approval, verify_waiver
from batchone.pipeline.job.sums import SUMS
from batchone.pipeline.job.withdrawal import ANSWERS, DECISIONS, PAST, read_answers, read_decisions, verify_decision
from batchone.pipeline.revisions import revisions
from batchone.pipeline.store import LOCK, CaseFolder, sha256_file
from batchone.pipeline.values import Approval, Decision, Declined, Waiver

Signed = Approval | Waiver | Decision | Declined

_OF_A_RECORD = re.compile(rf"record (?P<record>[A-Za-z0-9_-]+): {SHELVED}")
_OF_A_CASE = re.compile(r"case (?P<case>[A-Za-z0-9][A-Za-z0-9._-]*): (?P<what>.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong: in which file (relative to the site), in which line of it (None: as a whole)."""

    file: str
    line: int | None
    text: str


@dataclass(frozen=True, slots=True)
class Signature:
    """A person's signature as 21 CFR 11.50 wants it shown; ``kind`` is approval, waiver, decision or answer."""

    kind: str
    name: str
    time: str
    meaning: str
    about: str
    demonstration: bool
    holds: bool


@dataclass(frozen=True, slots=True)
class Trail:
    """The record of one case, or of the site itself (``name`` is None)."""

    name: str | None
    chain: Chain
    faults: tuple[Fault, ...]
    signatures: tuple[Signature, ...] = ()


@dataclass(frozen=True, slots=True)
class _Anchor:
    """A line of the site's events that names the ``head`` of a case's chain; ``own``: the line's digest."""

    line: int
    case: str
    what: str
    head: str
    own: str


def audit_case(site: Path, case: str) -> Trail:
    """Verify the record of one case, against the site's events too where it has any.

    Raises
    ------
    UnknownCaseError
        The site does not know the case.
    """
    told = _told(site, case)
    anchors = [anchor for anchor in _anchors(read_chain(site / EVENTS)) if anchor.case == case]
    if not (site / CASES / case).is_dir() and not anchors:
        raise UnknownCaseError(f"case {case} is not known at this site", hint="check the id and --site")
    return _trail(site, case, told, anchors)


def audit_site(site: Path) -> tuple[Trail, ...]:
    """Verify the record of a whole site: its own events first, then every case that is there or that they name."""
    folders = {path.name for path in (site / CASES).glob("*") if path.is_dir() and not path.name.startswith(".")}
    told = {case: _told(site, case) for case in folders}
    chain = read_chain(site / EVENTS)
    anchors: dict[str, list[_Anchor]] = {case: [] for case in folders}
    for anchor in _anchors(chain):
        anchors.setdefault(anchor.case, []).append(anchor)
    trails = (_trail(site, case, told.get(case, ()), anchors[case]) for case in sorted(anchors))
    return (Trail(None, chain, (*_chain_faults(EVENTS, chain), *_record_faults(site, chain))), *trails)


def _record_faults(site: Path, chain: Chain) -> Iterator[Fault]:
    """Each device record that the site's events tell of must lie on the shelf as it came, and each that lies there be whole."""
    shelf = site / RECORDS
    for number, event in enumerate(chain.events, start=1):
        match = _OF_A_RECORD.fullmatch(event.what)
        if match is None:
            continue
        sums = shelf / match["record"] / SUMS
        if not sums.is_file():
            text = f"record {match['record']} was shelved, and is not there; where a crash came between, its cell brings it again"
            yield Fault(EVENTS, number, text)
        elif sha256_file(sums) != event.digest:
            yield Fault(EVENTS, number, f"record {match['record']} is another one than was shelved")
    there = sorted(path for path in shelf.glob("[!.]*") if path.is_dir())
    if there:
        from batchone.factory.record import verify_record  # loads much, and most sites have no cell

        for folder in there:
            try:
                verify_record(folder, allowed=None)
            except (MachineError, OSError, ValueError) as error:
                yield Fault(f"{RECORDS}/{folder.name}", None, str(error))


def _told(site: Path, case: str) -> tuple[str, ...]:
    """What the site was told last of a case, by the lock's file: head of the case, head of the site's event; () when nothing."""
    path = site / CASES / case / LOCK
    return tuple(path.read_text(encoding="utf-8", errors="replace").split()) if path.is_file() else ()


def _trail(site: Path, case: str, told: tuple[str, ...], anchors: list[_Anchor]) -> Trail:
    """The record of one case. What names heads is read before the events that they must be in: cases may run meanwhile."""
    folder = CaseFolder(site / CASES / case) if (site / CASES / case).is_dir() else None
    heads = [] if folder is None else _stage_heads(folder)
    signed, faults = ([], []) if folder is None else _signed(folder)
    chain = read_chain(site / CASES / case / EVENTS)
    faults = [*_chain_faults(f"{CASES}/{case}/{EVENTS}", chain), *_anchor_faults(site, case, chain, anchors), *faults]
    if folder is None:
        return Trail(case, _removed_chain(site, anchors), tuple(faults))
    if chain.broken_line is None:
        faults += _head_faults(case, chain, heads)
    if told and told not in {(anchor.head, anchor.own) for anchor in anchors}:
        faults.append(Fault(EVENTS, None, f"case {case}: the site was told of {told[0][:12]}, and its events do not say so"))
    if folder is not None:
        faults += _untold_faults(case, signed, chain.events)
    shown = []
    for one in signed:
        fault = _signature_fault(one, site / KEYS, chain.events)
        shown.append(_shown(one, holds=fault is None))
        if fault is not None:
            faults.append(Fault(f"{CASES}/{case}", None, f"signature of {one.name}: {fault}"))
    return Trail(case, chain, tuple(faults), tuple(shown))


def _anchors(chain: Chain) -> Iterator[_Anchor]:
    for number, event in enumerate(chain.events, start=1):
        if event.digest and (match := _OF_A_CASE.fullmatch(event.what)) is not None:
            yield _Anchor(number, match["case"], match["what"], event.digest, event.head)


def _chain_faults(file: str, chain: Chain) -> Iterator[Fault]:
    if chain.broken_line is not None:
        yield Fault(file, chain.broken_line, chain.fault)


def _anchor_faults(site: Path, case: str, chain: Chain, anchors: list[_Anchor]) -> Iterator[Fault]:
    """Each head that the site's events name must be in a chain: that of the case as it is, or as it was when it ended."""
    ends = [number for number, anchor in enumerate(anchors) if anchor.what in (BEGUN_ANEW, TAKEN_AWAY)]
    since = ends[-1] + 1 if ends else 0
    for number in ends:
        if anchors[number].what == TAKEN_AWAY:
            known = {event.head for event in read_chain(removed_place(site, case, anchors[number].head) / EVENTS).events}
            if anchors[number].head not in known:
                yield Fault(EVENTS, anchors[number].line, f"case {case}: what was kept of it when it was removed is gone or cut")
    heads = {event.head for event in chain.events}
    missing = [anchor for anchor in anchors[since:] if anchor.head not in heads]
    if missing and not (site / CASES / case).is_dir():
        yield Fault(EVENTS, missing[-1].line, f"case {case} is gone: its folder is not at this site")
    elif missing and chain.broken_line is None:
        at = missing[0]
        yield Fault(EVENTS, at.line, f"case {case}: the event {at.what!r} ({at.head[:12]}) is not among its {len(chain.events)}")


def _stage_heads(folder: CaseFolder) -> list[tuple[str, str | None]]:
    """Of each stage's record the head of the events that it was made after; None for one that cannot be read."""
    found = []
    for path in sorted(folder.path.glob("[!.]*/stage.json")):
        record = folder.record(path.parent.name)
        found.append((path.parent.name, None if record is None else str(record.get("events_head", START))))
    return found


def _head_faults(case: str, chain: Chain, heads: list[tuple[str, str | None]]) -> Iterator[Fault]:
    known = {START, *(event.head for event in chain.events)}
    for name, head in heads:
        file = f"{CASES}/{case}/{name}/stage.json"
        if head is None:
            yield Fault(file, None, "cannot be read")
        elif head not in known:
            text = f"was made when the case's events ended with {head[:12]}, which is not among its {len(chain.events)}"
            yield Fault(file, None, text)


def _signed(folder: CaseFolder) -> tuple[list[Signed], list[Fault]]:
    """The approvals and waivers that a case holds, of its revisions first, and the decisions on it."""
    signed: list[Signed] = []
    faults = []
    withdrawn = [f"{one.folder.relative_to(folder.path)}/" for one in revisions(folder.path) if one.withdrawn]
    for name in (f"{place}{name}" for place in (*withdrawn, "") for name in (GATE.name, WAIVERS)):
        record = folder.record(name)
        if record is None:
            continue
        if folder.intact(name, record):
            value = folder.load(name)
            signed += (value,) if isinstance(value, Approval) else value
        else:
            faults.append(Fault(f"{CASES}/{folder.path.name}/{name}", None, "is not what its stage.json says"))
    for name, read in ((ANSWERS, read_answers), (DECISIONS, read_decisions)):
        try:
            signed += read(folder.path)
        except MachineError as error:
            faults.append(Fault(f"{CASES}/{folder.path.name}/{name}", None, str(error)))
    return signed, faults


def _untold_faults(case: str, signed: list[Signed], events: tuple[Event, ...]) -> Iterator[Fault]:
    """Each decision that the events tell of must be there: what is taken away would undo it."""
    made = [one for one in signed if isinstance(one, Decision)]
    for number, event in enumerate(events, start=1):
        kind = event.what.partition(": ")[0]
        later = (PAST[one.what] == kind and one.time.isoformat() >= event.when for one in made)
        if ": " in event.what and kind in PAST.values() and not any(later):
            text = (
                f"the case was {kind}, and {DECISIONS}/ does not hold it; where a crash came between, give the same command again"
            )
            yield Fault(f"{CASES}/{case}/{EVENTS}", number, text)
    kept = {(one.name, SAID[one.what], one.time.isoformat()) for one in signed if isinstance(one, Declined)}
    for number, event in enumerate(events, start=1):
        kind = event.what.partition(": ")[0]
        if event.meaning in MEANINGS.values() and (event.who, kind, event.when) not in kept:
            text = (
                f"the device was {kind}, and {ANSWERS}/ does not hold it; where a crash came between, give the same answer again"
            )
            yield Fault(f"{CASES}/{case}/{EVENTS}", number, text)


def _signature_fault(signed: Signed, keys: Path, events: tuple[Event, ...]) -> str | None:
    try:
        if isinstance(signed, Approval):
            verify_approval(signed, keys)
        elif isinstance(signed, Decision | Declined):
            verify_decision(signed, keys)
        else:
            verify_waiver(signed, keys)
    except MachineError as error:
        return str(error)
    if isinstance(signed, Declined):
        events = tuple(one for one in events if one.what == f"{SAID[signed.what]}: {signed.reason}")
    wanted = (signed.name, signed.digest, signed.time.isoformat(), signed.meaning)
    told = any((event.who, event.digest, event.when, event.meaning) == wanted for event in events)
    return None if told else "no event of the case tells of it"


def _shown(signed: Signed, *, holds: bool) -> Signature:
    time = signed.time.isoformat()
    if isinstance(signed, Approval):
        return Signature("approval", signed.name, time, signed.meaning, signed.digest, signed.demonstration, holds)
    if isinstance(signed, Decision):
        about = f"{PAST[signed.what]}; reason: {signed.reason}"
        return Signature("decision", signed.name, time, signed.meaning, about, demonstration=False, holds=holds)
    if isinstance(signed, Declined):
        about = f"{SAID[signed.what]}; reason: {signed.reason}"
        return Signature("answer", signed.name, time, signed.meaning, about, demonstration=False, holds=holds)
    about = f"{signed.finding}; reason: {signed.reason}"
    return Signature("waiver", signed.name, time, signed.meaning, about, demonstration=False, holds=holds)


def removed_place(site: Path, case: str, head: str) -> Path:
    """Where what remains of a removed case lies, by the head of its chain at the end."""
    return site / REMOVED / f"{case}.{head[:12]}"


def _removed_chain(site: Path, anchors: list[_Anchor]) -> Chain:
    ends = [anchor for anchor in anchors if anchor.what == TAKEN_AWAY]
    return read_chain(removed_place(site, ends[-1].case, ends[-1].head) / EVENTS) if ends else Chain(())
