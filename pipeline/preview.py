"""A device with its interactive checks, kept in ``preview/`` beside the stages until the release checks of it are there.

It is for looking alone: no stage takes it, and nothing is approved, sliced or released on it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import json
import re
from collections.abc import Sequence
from typing import Any, Final

from batchone.pipeline.case_order import ORDER, order_digest, read_case_order
from batchone.pipeline.errors import BatchoneError, OrderError
from batchone.pipeline.events import EVENTS, read_chain
from batchone.pipeline.revisions import made_for
from batchone.pipeline.stages import STAGES
from batchone.pipeline.store import CaseFolder, write_atomic

_CHECK = next(stage for stage in STAGES if stage.gives == "CheckedDevice")
PREVIEW: Final = dataclasses.replace(
    _CHECK, name="preview", function="batchone.design.make:preview", gives="Preview", target_s=2.0, keep=lambda value, *_: value
)
"""As a row of the table: its version is that of the check, whose measures it has a part of."""

ORDER_FILE: Final = "order.json"
"""In its folder: the digest of the order that it was made for last, since a stage's record names only what it read of one."""
FOLLOW: Final = "follow"
_AWAITED: Final = dt.timedelta(minutes=10)  # project default: release checks take seconds, behind other cases minutes
_FAILED = re.compile(r"[a-z]+ failed: (.*)", re.DOTALL)
_GOES_ON = re.compile(r"(order changed|[a-z]+ done)\Z")


def preview_of(case: CaseFolder) -> dict[str, Any] | None:
    """The record of the preview while it counts: of the device and for the order that are there, without release checks."""
    found, device, checked = (case.record(name) for name in (PREVIEW.name, "design", _CHECK.name))
    if found is None or device is None or _of(found) != device.get("value_digest") or _of(found) == _of(checked or {}):
        return None
    return found if _is_for_the_order(case) else None


def keep_order(case: CaseFolder, order: str) -> None:
    """Note the digest of the order that the preview of a case was made for; the caller holds the case's lock."""
    write_atomic(case.path / PREVIEW.name / ORDER_FILE, json.dumps({"order": order}).encode())


def why_not_checked(happened: Sequence[str]) -> str:
    """Why the release checks could not be made, where that is the last that a case's events say of stages and order; else ""."""
    for what in reversed(happened):
        if failed := _FAILED.match(what):
            return failed[1] or "not told"
        if _GOES_ON.match(what):
            return ""
    return ""


def release_checks(case: CaseFolder, happened: Sequence[str], now: dt.datetime) -> str:
    """What becomes of the release checks that a case's preview awaits: ``FOLLOW``, or else why not; "" without a preview."""
    found = preview_of(case)
    if found is None:
        return ""
    if why := why_not_checked(happened):
        return f"could not be made: {why}"
    with contextlib.suppress(ValueError, TypeError):
        if now - dt.datetime.fromisoformat(str(found.get("started"))) < _AWAITED:
            return FOLLOW
    return f"were not made within {_AWAITED.total_seconds() / 60.0:.0f} min"


def outdated(case: CaseFolder, device: str) -> bool:
    """Whether the case holds a checked device that is another than the one of a digest: somebody waits for the new one."""
    checked = case.record(_CHECK.name)
    return checked is not None and _of(checked) != device


def refuse_preview(case: CaseFolder) -> None:
    """Let nobody sign or answer while the device that people see has its interactive checks alone.

    Raises
    ------
    OrderError
        It has.
    """
    if preview_of(case) is None:
        return
    if why := why_not_checked([one.what for one in read_chain(case.path / EVENTS).events]):
        raise OrderError(
            f"the new device has its interactive checks alone, its release checks could not be made: {why}",
            hint="change a parameter, or cancel the case",
        )
    raise OrderError(
        "the new device has its interactive checks alone, its release checks follow",
        hint="wait for them, or make them with `batchone design CASE`; then look at it again",
    )


def refuse_unseen(case: CaseFolder) -> None:
    """Let nobody sign while the case's checked device is another than its order asks for, or than people see.

    Raises
    ------
    OrderError
        It is.
    """
    if (case.path / ORDER).is_file() and made_for(case.path) not in (None, order_digest(read_case_order(case.path / ORDER))):
        raise OrderError(
            "the order was changed, and its device is not made yet",
            hint="wait for the new device, or make it with `batchone design CASE`; then look at it",
        )
    refuse_preview(case)


def _is_for_the_order(case: CaseFolder) -> bool:
    """Whether the preview was made for the order that the case has now; a case without an order has nothing else to be for."""
    if not (case.path / ORDER).is_file():
        return True
    try:
        kept = json.loads((case.path / PREVIEW.name / ORDER_FILE).read_bytes())
        return bool(kept["order"] == order_digest(read_case_order(case.path / ORDER)))
    except (OSError, ValueError, KeyError, TypeError, BatchoneError):  # what cannot be told for sure is not shown
        return False


def _of(record: dict[str, Any]) -> Any:
    return record.get("taken", {}).get("Device")
