"""Comments on the proposed device of a case: events, by whom and when, on which device. They change nothing."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from pathlib import Path

from batchone.pipeline.case_decisions import known_case, refuse_ended
from batchone.pipeline.errors import OrderError, in_stage
from batchone.pipeline.events import COMMENTED, EVENTS, append_event, read_chain
from batchone.pipeline.preview import refuse_preview

MOST_CHARACTERS = 400
MOST_COMMENTS = 200  # on one case: what is read again at every look stays short; project default
_SAID = f"{COMMENTED}: "


def comment(site: Path, case_id: str, *, who: str, device: str, text: str) -> None:
    """Tell the events of a case what somebody says of the CheckedDevice of a digest, as they have seen it.

    Parameters
    ----------
    text
        As :func:`require_words` lets it pass.

    Raises
    ------
    OrderError
        No such text; the case was ended, has no device yet, another one than was seen, a newer one with its interactive checks
        alone, or 200 comments.
    MachineError
        Another process works on the case; the disk refuses.
    """
    said = require_words(text)
    case = known_case(site, case_id)
    with case.locked(), in_stage(case_id, "comment"):
        refuse_ended(case)
        record = case.record("check")
        if record is None:
            raise OrderError("the case has no device yet", hint="wait until there is one to look at")
        found = str(record["value_digest"])
        if found != device:
            raise OrderError(
                f"the device that was seen is {device[:12] or 'not told'}, that of the case is {found[:12]}",
                hint="look at it again",
            )
        refuse_preview(case)
        told = sum(one.what.startswith(_SAID) for one in read_chain(case.path / EVENTS).events)
        if told >= MOST_COMMENTS:
            raise OrderError(f"the case has {told} comments, at most {MOST_COMMENTS}", hint="speak to its reviewer")
        now = dt.datetime.now(dt.UTC).isoformat()
        append_event(case.path / EVENTS, who=who, what=_SAID + said, when=now, digest=found)


def require_words(text: str) -> str:
    """The text of a comment: one line of 1 to 400 printable characters, without the spaces about it.

    Raises
    ------
    OrderError
        It is none.
    """
    said = text.strip()
    if not 0 < len(said) <= MOST_CHARACTERS or not said.isprintable():
        raise OrderError(
            f"the comment has {len(said)} characters, must be 1 to {MOST_CHARACTERS}, all printable", hint="write plain words"
        )
    return said


def comments_of(events: Iterable[Mapping[str, str]]) -> tuple[dict[str, str], ...]:
    """The comments among the events of a case, the first one first: ``who``, ``when``, ``text``, ``device`` (its digest)."""
    return tuple(
        {"who": one["who"], "when": one["when"], "text": one["what"].removeprefix(_SAID), "device": one["digest"]}
        for one in events
        if one["what"].startswith(_SAID)
    )
