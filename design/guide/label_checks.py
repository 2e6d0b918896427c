"""The label of a guide or an implant, read back from a picture of the finished part."""

from __future__ import annotations

from itertools import zip_longest

import numpy as np

from batchone.design.family import FamilyLimits
from batchone.design.guide.checks import judged
from batchone.design.guide.label import LABEL, letters_mm
from batchone.design.lettering.picture import pictured
from batchone.design.lettering.reading import read
from batchone.pipeline.findings import label_words
from batchone.pipeline.process import Process
from batchone.pipeline.values import Finding, FloatArray, Part, Vector

_NO_ARROW_DEG = 180.0  # an arrow that is not found counts as turned round
_HINT = "report this order: the label was not made as meant, or something stands before it"


def label_findings(
    part: Part, heads: tuple[FloatArray, ...], choices: tuple[tuple[str, ...], ...], process: Process, limits: FamilyLimits
) -> tuple[Finding, ...]:
    """Characters that read otherwise than meant, and how far the arrow points away from the head.

    ``choices`` are the wordings that may have been engraved, the fullest first; blanks are not read.
    ``heads`` are unit vectors (3,): the arrow must point along one of them.
    """
    engraving = pictured(part, LABEL, height_mm=letters_mm(process))
    found = None if engraving is None else read(engraving)
    said = () if found is None else found.lines
    wrong, meant = min(
        ((_differing(said, lines), lines) for lines in choices), key=lambda one: one[0]
    )  # of equals the first: the fullest
    short = choices[0][-1].removeprefix(meant[-1]).strip()
    what = label_words(part.name, " / ".join(meant))
    what += f' ("{" / ".join(said)}")' if wrong else f"; no room for {short}" if short else ""
    away_deg = _NO_ARROW_DEG
    if engraving is not None and found is not None and found.up is not None:
        away_deg = min(_away_deg(found.up, head, engraving.axes[:, 2]) for head in heads)
    gates, where = limits.gates, _middle(part)
    turned = f"{part.name}: arrow of the label, away from the head"
    return (
        judged(gates["label_misread"], "label", what, float(wrong), _HINT, where),
        judged(gates["label_arrow_deg"], "label", turned, away_deg, _HINT, where),
    )


def _away_deg(up: FloatArray, head: FloatArray, reader: FloatArray) -> float:
    """By how much an arrow points away from a direction, as the reader sees both."""
    flat = head - reader * float(head @ reader)
    cosine = float(flat @ up) / max(float(np.linalg.norm(flat)), 1e-9)
    return float(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))


def _middle(part: Part) -> Vector | None:
    """Middle of the letters; None where there are none."""
    faces = part.mesh.faces[part.face_labels == part.labels.index(LABEL)] if LABEL in part.labels else part.mesh.faces[:0]
    if len(faces) == 0:
        return None
    x, y, z = part.mesh.vertices_mm[np.unique(faces)].mean(axis=0).tolist()
    return (x, y, z)


def _differing(said: tuple[str, ...], meant: tuple[str, ...]) -> int:
    """Characters that differ; where lines are broken does not count."""
    return sum(one != other for one, other in zip_longest("".join(said), "".join(meant).replace(" ", "")))
