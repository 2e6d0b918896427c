"""Labels that a person gave back for this case."""

from __future__ import annotations

import numpy as np

from batchone.pipeline.errors import InputError
from batchone.pipeline.labels import edited_by
from batchone.pipeline.values import Edit, Scan, judge
from batchone.segment.backends.foreign import Named, label_map_of
from batchone.segment.backends.separated import Separated
from batchone.segment.grids import GridError, laid_on
from batchone.segment.label_map import expanded

CONFIDENCE = 0.95  # a person has looked; project default, unverified
_HINT = "edit the labels that stand in the case's segment folder, on their own scan, and give them again"


def edited(scan: Scan, edit: Edit) -> Separated:
    """Take a person's labels.

    Raises
    ------
    InputError
        They lie on another grid, hold no bone, or name the other side.
    """
    if edit.labels is None:
        raise ValueError("nobody gave labels")
    given = edit.labels
    if given.scan != scan.record.sources_digest:
        raise refuse(f"they were drawn on scan {given.scan[:16] or 'unknown'}, this is scan {scan.record.sources_digest[:16]}")
    try:
        voxels = laid_on(expanded(given).voxels, given.affine, scan.affine, scan.hu.shape, part=False)
    except GridError as error:
        raise refuse(f"they lie on another grid: {error}") from error
    named = tuple(Named(one.value, one.name, one.side, CONFIDENCE, f"named by {edit.who}") for one in given.labels)
    label_map = label_map_of(np.ascontiguousarray(voxels), scan, named, refuse=refuse)
    what = f"bones whose labels a person gave: {edit.who}, file {edit.file_sha256[:16]}{edit.note and '; ' + edit.note}"
    return Separated(label_map, edited_by(edit.who), (judge("labels_edited", what, float(len(label_map.labels)), ""),))


def refuse(text: str, *, hint: str = _HINT) -> InputError:
    """The labels cannot be taken over."""
    return InputError(f"the labels cannot be taken over: {text}", hint=hint)
