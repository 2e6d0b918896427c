"""A device with its interactive checks, kept in ``preview/`` beside the stages until the release checks of it are there.

It is for looking alone: no stage takes it, and nothing is approved, sliced or released on it.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from batchone.pipeline.errors import OrderError
from batchone.pipeline.stages import STAGES
from batchone.pipeline.store import CaseFolder

_CHECK = next(stage for stage in STAGES if stage.gives == "CheckedDevice")
PREVIEW: Final = dataclasses.replace(
    _CHECK, name="preview", function="batchone.design.make:preview", gives="Preview", target_s=2.0, keep=lambda value, *_: value
)
"""As a row of the table: its version is that of the check, whose measures it has a part of."""


def preview_of(case: CaseFolder) -> dict[str, Any] | None:
    """The record of the preview while it counts: it is of the device that is there, and the release checks are of another."""
    found, device, checked = (case.record(name) for name in (PREVIEW.name, "design", _CHECK.name))
    if found is None or device is None or _of(found) != device.get("value_digest") or _of(found) == _of(checked or {}):
        return None
    return found


def outdated(case: CaseFolder, device: str) -> bool:
    """Whether the case holds a checked device that is another than the one of a digest: somebody waits for the new one."""
    checked = case.record(_CHECK.name)
    return checked is not None and _of(checked) != device


def refuse_preview(case: CaseFolder) -> None:
    """Let nobody sign while the device that people see has its interactive checks alone.

    Raises
    ------
    OrderError
        It has.
    """
    if preview_of(case) is not None:
        raise OrderError(
            "the new device has its interactive checks alone, its release checks follow", hint="wait for them, look at it again"
        )


def _of(record: dict[str, Any]) -> Any:
    return record.get("taken", {}).get("Device")
