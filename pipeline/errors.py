"""Errors, sorted by who must act.

::

    BatchoneError            .case_id .stage (stamped by the runner)  .hint  exit_code
      InputError      2      the sender: images or order unusable
        SeriesError          ... the images
        OrderError           ... the order
        UnknownCaseError     ... the id: the site has no such case
      ProcessingError 3      us: valid input, no answer found
        SegmentationError
        DesignError
      CheckFailed     4      the engineer: built, but breaks a requirement (carries all findings)
      MachineError    5      the workshop: machine, profile, missing program, full disk, signature
        DiskError            ... the disk is full or returns errors
        FilesError           ... files differ from the approved device (carries all findings)

A message says *what, measured value and unit, the limit and unit*; ``hint`` says what to do next.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batchone.pipeline.values import Finding


class BatchoneError(Exception):
    """Root of all expected failures.

    Parameters
    ----------
    message
        What, the measured value with unit, the limit with unit.
    hint
        What to do next.
    """

    exit_code = 1
    findings: tuple[Finding, ...] = ()
    """What was measured before it was refused."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint
        self.case_id: str | None = None
        self.stage: str | None = None


class InputError(BatchoneError):
    """The sender acts: images or order are unusable."""

    exit_code = 2


class SeriesError(InputError):
    """The study holds no series from which a true volume can be built."""


class OrderError(InputError):
    """The order is incomplete, contradicts itself, or contradicts the images."""


class UnknownCaseError(InputError):
    """The site has no case of this id."""


class ProcessingError(BatchoneError):
    """We act: the input is valid but no answer was found."""

    exit_code = 3


class SegmentationError(ProcessingError):
    """No bone, or no closed surface, was found."""


class DesignError(ProcessingError):
    """No valid device could be built."""


class CheckFailed(BatchoneError):  # noqa: N818 - the name in the contract
    """The engineer acts: the device was built but breaks a requirement."""

    exit_code = 4

    def __init__(self, message: str, findings: tuple[Finding, ...] = (), *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.findings = findings


class MachineError(BatchoneError):
    """The workshop acts: printer, profile, material, missing program, disk or signature."""

    exit_code = 5


class DiskError(MachineError):
    """The disk takes no more, or returns errors."""


class FilesError(MachineError):
    """Files read back differ from the approved device."""

    def __init__(self, message: str, findings: tuple[Finding, ...] = (), *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.findings = findings


@contextmanager
def in_stage(case_id: str, stage: str) -> Iterator[None]:
    """Stamp case and stage on an error on its way out."""
    try:
        yield
    except BatchoneError as error:
        error.case_id = error.case_id or case_id
        error.stage = error.stage or stage
        raise
