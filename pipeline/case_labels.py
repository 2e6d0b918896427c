"""What a person says about the labels of a case: edited labels, and the level of counted vertebrae."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from batchone.pipeline import codec
from batchone.pipeline.case import case_folder, record_event
from batchone.pipeline.case_decisions import refuse_ended
from batchone.pipeline.case_order import replace_order
from batchone.pipeline.disk import reported
from batchone.pipeline.editing.export import labels_file
from batchone.pipeline.editing.take import NEVER, edit_digest, put_edit, read_edit, remove_edit
from batchone.pipeline.errors import InputError, in_stage
from batchone.pipeline.job.signature import release_key
from batchone.pipeline.order import Order, with_word, without_word
from batchone.pipeline.store import CaseFolder, write_atomic
from batchone.segment.confirmed import from_above, with_levels


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
        record_event(case, who, f"level confirmed: {said}", meaning="compared with the patient's records")
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
        refuse_ended(case)
        if case.record("intake") is None:
            raise InputError("the case has no scan yet", hint="run it with --study")
        known = case.load("segment").labels.labels if case.record("segment") is not None else ()
        freed = without_word(order)
        edit = read_edit(file, case.load("intake"), known, freed, who=who)
        _free_levels(case, order, freed, who)  # first: an old count must never meet new labels
        put_edit(case, edit)
        record_event(case, who, "labels edited", meaning="bones as a person drew them", digest=edit.file_sha256)
    return freed


def drop_labels(site: Path, order: Order, *, who: str) -> Order:
    """Go back to the labels of the backend, and say so in the events; the order comes back as from :func:`take_labels`."""
    case = CaseFolder(case_folder(site, order.case))
    with case.locked():
        refuse_ended(case)
        if edit_digest(case) is None:
            return order
        freed = without_word(order)
        _free_levels(case, order, freed, who)
        remove_edit(case)
        record_event(case, who, "edited labels dropped")
    return freed


def _free_levels(case: CaseFolder, order: Order, freed: Order, who: str) -> None:
    if freed != order:
        record_event(case, who, "confirmed level dropped", meaning="the vertebrae may be counted otherwise now")
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
