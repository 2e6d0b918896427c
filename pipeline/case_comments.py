"""Comments on the proposed device of a case: events, by whom and when, on which device. They change nothing."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from pathlib import Path

from batchone.pipeline.case_decisions import known_case, refuse_ended
from batchone.pipeline.errors import OrderError, in_stage
from batchone.pipeline.events import COMMENTED, EVENTS, append_event

MOST_CHARACTERS = 400
_SAID = f"{COMMENTED}: "


def comment(site: Path, case_id: str, *, who: str, text: str) -> None:
    """Tell the events of a case what somebody says of the device that it holds now.

    Parameters
    ----------
    text
        One line, at most 400 characters.

    Raises
    ------
    OrderError
        No such text, no device yet, or the case was ended.
    MachineError
        Another process works on the case; the disk refuses.
    """
    said = text.strip()
    if not 0 < len(said) <= MOST_CHARACTERS or not said.isprintable():
        raise OrderError(
            f"the comment has {len(said)} characters, must be 1 to {MOST_CHARACTERS}, all printable", hint="write plain words"
        )
    case = known_case(site, case_id)
    with case.locked(), in_stage(case_id, "comment"):
        refuse_ended(case)
        record = case.record("check")
        if record is None:
            raise OrderError("the case has no device yet", hint="wait until there is one to look at")
        now = dt.datetime.now(dt.UTC).isoformat()
        append_event(case.path / EVENTS, who=who, what=_SAID + said, when=now, digest=str(record["value_digest"]))


def comments_of(events: Iterable[Mapping[str, str]]) -> tuple[dict[str, str], ...]:
    """The comments among the events of a case, the first one first: ``who``, ``when``, ``text``, ``device`` (its digest)."""
    return tuple(
        {"who": one["who"], "when": one["when"], "text": one["what"].removeprefix(_SAID), "device": one["digest"]}
        for one in events
        if one["what"].startswith(_SAID)
    )
