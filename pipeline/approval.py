"""A person's signed words: a failed finding may stand (waiver), a device is released (approval) or
not (declined), a case is ended (decision)."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field, replace
from typing import Literal

from batchone.pipeline.findings import Finding

Confirmed = Literal["", "one by one", "all at once"]
LATER = {"later": True}
"""Of a field that came in a later version: while it holds its default, neither digest nor signed words know of it."""


@dataclass(frozen=True, slots=True)
class Waiver:
    """A person's signed word that one failed finding of one CheckedDevice may stand.

    ``finding`` is :func:`finding_words` of it, ``digest`` that of the CheckedDevice, ``signature`` an armoured SSH signature over
    :meth:`text`.
    """

    name: str
    time: dt.datetime
    meaning: str
    reason: str
    finding: str
    digest: str
    public_key: str
    signature: str = ""

    def text(self) -> bytes:
        """The exact bytes that are signed."""
        lines = (
            "batchone waiver 1",
            f"name: {self.name}",
            f"time: {self.time.astimezone(dt.UTC).isoformat()}",
            f"meaning: {self.meaning}",
            f"reason: {self.reason}",
            f"finding: {self.finding}",
            f"digest: {self.digest}",
        )
        return ("\n".join(lines) + "\n").encode()

    def covers(self, finding: Finding) -> bool:
        """Whether it is this finding that was waived, and whether it may be."""
        return finding.waivable and finding.verdict in ("fail", "waived") and self.finding == finding_words(finding)


def finding_words(finding: Finding) -> str:
    """What a waiver names: check, what was measured, value and limit, in one line."""
    return f"{finding.check}: {finding.what}: {round(finding.value, 6) + 0.0:.6g} {finding.unit}, limit {finding.limit}"


def shown(findings: tuple[Finding, ...], waivers: tuple[Waiver, ...]) -> tuple[Finding, ...]:
    """The findings as people see them: a failed one that was waived says so, in its verdict."""
    covered = [any(waiver.covers(finding) for waiver in waivers) for finding in findings]
    return tuple(replace(f, verdict="waived") if waived else f for f, waived in zip(findings, covered, strict=True))


@dataclass(frozen=True, slots=True)
class Approval:
    """A person's signed word on one CheckedDevice.

    ``digest`` is that of the CheckedDevice; ``signature`` is an armoured SSH signature over :meth:`text`, which holds the
    ``waivers`` that the device is released with, and the points (id, text) of the family's ``checklist`` that the person
    confirmed: ticked one by one, or all at once as ``--approve-as`` and ``--checked all`` do. An approval of a version before
    checklists has none.
    """

    name: str
    time: dt.datetime
    meaning: str
    digest: str
    public_key: str
    signature: str = ""
    demonstration: bool = False
    waivers: tuple[Waiver, ...] = ()
    checklist: tuple[tuple[str, str], ...] = field(default=(), metadata=LATER)
    confirmed: Confirmed = field(default="", metadata=LATER)

    def text(self) -> bytes:
        """The exact bytes that are signed."""
        lines = (
            "batchone approval 1",
            f"name: {self.name}",
            f"time: {self.time.astimezone(dt.UTC).isoformat()}",
            f"meaning: {self.meaning}",
            f"digest: {self.digest}",
            f"demonstration: {'yes' if self.demonstration else 'no'}",
            *(f"waiver: {waiver.name}: {waiver.finding}: {waiver.reason}" for waiver in self.waivers),
            *(f"checked: {name}: {text}" for name, text in self.checklist),
            *((f"confirmed: {self.confirmed}",) if self.confirmed else ()),
        )
        return ("\n".join(lines) + "\n").encode()


@dataclass(frozen=True, slots=True)
class Declined:
    """A person's signed word that a device goes back (``return``), or that the case ends without one (``reject``).

    ``digest`` is that of the CheckedDevice that the case holds, "" before there is one; ``signature`` an armoured SSH signature
    over :meth:`text`.
    """

    what: Literal["return", "reject"]
    case: str
    name: str
    time: dt.datetime
    meaning: str
    reason: str
    digest: str
    signature: str = ""

    def text(self) -> bytes:
        """The exact bytes that are signed."""
        lines = (
            "batchone answer 1",
            f"what: {self.what}",
            f"case: {self.case}",
            f"name: {self.name}",
            f"time: {self.time.astimezone(dt.UTC).isoformat()}",
            f"meaning: {self.meaning}",
            f"reason: {self.reason}",
            f"digest: {self.digest}",
        )
        return ("\n".join(lines) + "\n").encode()


@dataclass(frozen=True, slots=True)
class Decision:
    """A person's signed word on a case: it ends (``cancel``), another site goes on with it (``hand-over``), or a device that was
    approved is open for changes again (``revise``).

    ``digest`` is that of the CheckedDevice that the case holds, "" before there is one; ``approval`` that of the Approval that
    counts no more, "" where there is none; ``jobs`` are the job folders that are withdrawn by it: id, and SHA-256 of the
    SHA256SUMS; ``to`` is the fingerprint of the other site's release key. ``signature`` is an armoured SSH signature over
    :meth:`text`.
    """

    what: Literal["cancel", "revise", "hand-over"]
    case: str
    name: str
    time: dt.datetime
    meaning: str
    reason: str
    digest: str
    approval: str
    jobs: tuple[tuple[str, str], ...]
    to: str = ""
    signature: str = ""

    def text(self) -> bytes:
        """The exact bytes that are signed."""
        lines = (
            "batchone decision 1",
            f"what: {self.what}",
            f"case: {self.case}",
            f"name: {self.name}",
            f"time: {self.time.astimezone(dt.UTC).isoformat()}",
            f"meaning: {self.meaning}",
            f"reason: {self.reason}",
            f"digest: {self.digest}",
            f"approval: {self.approval}",
            *(f"job: {job} {sums}" for job, sums in self.jobs),
            f"to: {self.to}",
        )
        return ("\n".join(lines) + "\n").encode()
