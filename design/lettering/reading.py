"""Reading an engraving back: where its arrow points, and which character of the font each of its marks is most like.

Nothing of what was meant goes in but the height of a capital. A character is read only where it is like one of the font's far
enough, and by a stated lead more than like any other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from batchone.design.lettering.glyphs import FINER, Glyph, glyphs
from batchone.design.lettering.picture import PIXELS_PER_HEIGHT, BoolArray, Engraving
from batchone.design.solid import ARROW_HEAD, ARROW_SHAFT
from batchone.pipeline.values import FloatArray

LEAST_MATCH = 0.8  # shared area over joined area of a mark and its character; project default
LEAST_LEAD = 0.01  # by which it must be more alike than any other: I and l differ by 0.02 and more; project default
UNREAD = "?"
_LEAST_ARROW = 0.8  # the same for the arrow; the letters that are most like it reach 0.6
_ARROW_WIDE = (0.45, 0.8)  # width per length of what is looked at as an arrow; it is made 0.6 wide
_SPECK = 9  # numerical: pixels of what is no mark
_ROW = (
    1.45  # of a capital: all of a line ends less far below its highest place, all of the next one further; measured on the font
)
_NEAR = 0.12  # numerical: characters whose outline differs by more of a capital are not compared
_ASIDE = (-1, 0, 1)  # numerical: pixels by which a character may stand off sideways


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What an engraving says.

    Attributes
    ----------
    lines
        From above, blanks left out; ``?`` where no character is alike enough.
    match, lead
        Of the least sure character: how alike it is, and by how much more than any other. 0 where nothing could be read.
    up
        (3,) unit, where the arrow points; None where there is none.
    """

    lines: tuple[str, ...]
    match: float
    lead: float
    up: FloatArray | None


@dataclass(frozen=True, slots=True, eq=False)
class _Mark:
    """Something dark: its picture, cropped, and its lowest row and first column."""

    dark: BoolArray
    bottom: int
    left: int

    @property
    def right(self) -> int:
        return self.left + self.dark.shape[1]


@dataclass(frozen=True, slots=True)
class _Character:
    """A character read, how alike it is, and by how much more than any other."""

    character: str
    match: float
    lead: float


def read(engraving: Engraving) -> Reading:
    """Read a picture: the arrow says where up is; the text stands right of it."""
    turned = _upright(engraving.dark)
    if turned is None:
        return Reading((), 0.0, 0.0, None)
    dark, quarters, arrow = turned
    x, y = engraving.axes[:, 0], engraving.axes[:, 1]
    up = (y, -x, -y, x)[quarters]
    marks = [mark for mark in _pieces(dark) if mark.left != arrow.left or mark.bottom != arrow.bottom]
    if not marks or min(mark.left for mark in marks) < arrow.right:  # mirrored: the arrow stands left of all text
        return Reading((), 0.0, 0.0, up)
    lines = [_line(row) for row in _rows(marks)]
    sure = [one for line in lines for one in line]
    return Reading(
        tuple("".join(one.character for one in line) for line in lines),
        min(one.match for one in sure),
        min(one.lead for one in sure),
        up,
    )


def _upright(dark: BoolArray) -> tuple[BoolArray, int, _Mark] | None:
    """The picture turned so that the mark most like an arrow points up; by how many quarter turns; and that mark."""
    tried = [(_arrow_match(np.rot90(piece.dark, k)), -k, n) for n, piece in enumerate(_pieces(dark)) for k in range(4)]
    if not tried or max(tried)[0] < _LEAST_ARROW:
        return None
    _, back, _ = max(tried)
    turned = np.ascontiguousarray(np.rot90(dark, -back))
    return turned, -back, max(_pieces(turned), key=lambda mark: _arrow_match(mark.dark))


def _arrow_match(dark: BoolArray) -> float:
    tall, wide = dark.shape
    return _shared(dark, _arrow(tall, wide), 0, 0) if _ARROW_WIDE[0] * tall <= wide <= _ARROW_WIDE[1] * tall else 0.0


def _arrow(tall: int, wide: int) -> BoolArray:
    """An arrow upward that fills a picture."""
    y = (np.arange(tall)[:, None] + 0.5) / tall
    x = np.abs((np.arange(wide) + 0.5) / wide - 0.5)
    head = (y > 1.0 - ARROW_HEAD) & (x < 0.5 * (1.0 - y) / ARROW_HEAD)
    return np.asarray(head | ((y <= 1.0 - ARROW_HEAD) & (x < 0.5 * ARROW_SHAFT)))


def _pieces(dark: BoolArray) -> list[_Mark]:
    """All that hangs together."""
    found, _ = ndimage.label(dark, structure=np.ones((3, 3)))
    marks = []
    for number, (rows, columns) in enumerate(ndimage.find_objects(found), 1):
        own = found[rows, columns] == number
        if int(own.sum()) >= _SPECK:
            marks.append(_Mark(own, rows.start, columns.start))
    return marks


def _marks(pieces: list[_Mark]) -> list[_Mark]:
    """Characters of a line from left to right: pieces that stand over each other, as i and its dot, are one."""
    marks: list[_Mark] = []
    for piece in sorted(pieces, key=lambda one: (one.left, one.bottom)):
        if marks:
            over = min(marks[-1].right, piece.right) - piece.left
            if 2 * over > min(marks[-1].dark.shape[1], piece.dark.shape[1]):
                marks[-1] = _joined(marks[-1], piece)
                continue
        marks.append(piece)
    return marks


def _joined(one: _Mark, other: _Mark) -> _Mark:
    bottom, left = min(one.bottom, other.bottom), min(one.left, other.left)
    top = max(mark.bottom + mark.dark.shape[0] for mark in (one, other))
    dark = np.zeros((top - bottom, max(one.right, other.right) - left), dtype=np.bool_)
    for mark in (one, other):
        tall, wide = mark.dark.shape
        dark[mark.bottom - bottom : mark.bottom - bottom + tall, mark.left - left : mark.left - left + wide] |= mark.dark
    return _Mark(dark, bottom, left)


def _rows(marks: list[_Mark]) -> list[list[_Mark]]:
    """Lines of text from above, each from left to right."""
    rows: list[list[_Mark]] = []
    floor = 0.0
    for mark in sorted(marks, key=lambda one: -(one.bottom + one.dark.shape[0])):
        if not rows or mark.bottom < floor:
            rows.append([])
            floor = mark.bottom + mark.dark.shape[0] - _ROW * PIXELS_PER_HEIGHT
        rows[-1].append(mark)
    return [_marks(row) for row in rows]


def _baseline(row: list[_Mark]) -> int:
    """Where a line of text stands, in parts of a pixel row: where the characters that its marks are shaped like fit them best."""
    known = []
    for mark in row:
        alike = [(_shared(mark.dark, glyph.dark, 0, 0), k) for k, glyph in enumerate(glyphs(0)) if _sized(mark, glyph)]
        if alike and max(alike)[0] >= LEAST_MATCH:
            known.append((mark, max(alike)[1]))
    if not known:
        return FINER * min(mark.bottom for mark in row)
    first = FINER * round(float(np.median([mark.bottom - glyphs(0)[k].bottom for mark, k in known])))

    def fit(place: int) -> float:
        return sum(_on(mark, glyphs(place % FINER)[k], place, 0) for mark, k in known)

    return max(range(first - FINER, first + FINER + 1), key=lambda place: (fit(place), -abs(place - first)))


def _on(mark: _Mark, glyph: Glyph, baseline: int, aside: int) -> float:
    """How alike a mark is to a character on a baseline (in parts of a pixel row)."""
    return _shared(mark.dark, glyph.dark, glyph.bottom + baseline // FINER - mark.bottom, aside)


def _line(row: list[_Mark]) -> list[_Character]:
    """The characters of a line, all on one baseline."""
    baseline = _baseline(row)
    return [_character(mark, baseline) for mark in row]


def _character(mark: _Mark, baseline: int) -> _Character:
    """The character that a mark is most like, how much, and by how much more than any other."""
    scores = sorted(
        (
            (max(_on(mark, glyph, baseline, aside) for aside in _ASIDE), glyph)
            for glyph in glyphs(baseline % FINER)
            if _sized(mark, glyph)
        ),
        key=lambda one: -one[0],
    )
    if not scores:
        return _Character(UNREAD, 0.0, 0.0)
    match, glyph = scores[0]
    lead = match - (scores[1][0] if len(scores) > 1 else 0.0)
    return _Character(glyph.character if match >= LEAST_MATCH and lead >= LEAST_LEAD else UNREAD, match, lead)


def _sized(mark: _Mark, glyph: Glyph) -> bool:
    return bool((np.abs(np.subtract(mark.dark.shape, glyph.dark.shape)) <= _NEAR * PIXELS_PER_HEIGHT).all())


def _shared(one: BoolArray, other: BoolArray, up: int, right: int) -> float:
    """Shared over joined area of two pictures, the other moved by pixels."""
    low, left = max(0, up), max(0, right)
    high, end = min(one.shape[0], up + other.shape[0]), min(one.shape[1], right + other.shape[1])
    if high <= low or end <= left:
        return 0.0
    both = np.count_nonzero(one[low:high, left:end] & other[low - up : high - up, left - right : end - right])
    return both / (np.count_nonzero(one) + np.count_nonzero(other) - both)
