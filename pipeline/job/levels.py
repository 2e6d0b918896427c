"""The numbered picture: the spine from the front and from the side, each vertebra with its count from above and from below.

A person holds it beside the patient's records and says which vertebra is which. Both views have one height scale, so that a line
across the picture leads from a number to its vertebra in either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from scipy.ndimage import find_objects

from batchone.pipeline.job.annotate import Colour, font, png_bytes
from batchone.pipeline.labels import COUNTED
from batchone.pipeline.values import FloatArray, Label, Scan, VoxelLabels
from batchone.segment.confirmed import from_above, word_on
from batchone.segment.label_map import expanded, measured

_SIDE_MM = 105.0  # shown to both sides of the spine: the ribs as far as their angle
_FRONT_MM, _BEHIND_MM = 25.0, 12.0  # shown before and behind the vertebrae
_END_MM = 12.0  # shown above and below them, where the scan goes on
_SLAB_MM = 3.0  # to both sides of the spine's middle: what the view from the side averages
_SOFT_HU, _DENSE_HU = 80.0, 700.0  # what counts in the view from the front, as in a radiograph
_SIDE_LOW_HU, _SIDE_HIGH_HU = -150.0, 900.0  # window of the view from the side
_HEIGHT_PX, _LEAST_SCALE, _MOST_SCALE = 1050.0, 2.0, 5.0  # of the views; pixels per mm
_HEAD_PX, _FOOT_PX, _MIDDLE_PX, _RIM_PX = 92, 64, 320, 16
_OTHER, _RIB, _ODD, _EVEN = 1, 2, 3, 4  # kinds of outlines; neighbouring vertebrae differ
_COLOURS: dict[int, Colour] = {_OTHER: (204, 121, 167), _RIB: (0, 190, 140), _ODD: (86, 180, 233), _EVEN: (230, 159, 0)}
_INK, _PALE, _PAPER, _LINE = (255, 255, 255), (190, 190, 190), (18, 18, 18), (120, 120, 120)
_CHIP_PX = 17  # radius
_EDGE_PX = 2  # width of an outline
_BAR_MM = 50.0  # scale bar

Grey = npt.NDArray[np.uint8]
Kinds = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class _Box:
    """The part of the scan that is shown: axes run from head to feet, front to back, and the patient's right to left.

    ``step_mm`` along these; ``labels`` and ``hu`` have the same shape.
    """

    hu: npt.NDArray[np.int16]
    labels: npt.NDArray[np.uint8]
    step_mm: FloatArray


@dataclass(frozen=True, slots=True)
class _Vertebra:
    """One vertebra of the picture: its counts, and the middle of its body in mm along the axes of the box."""

    label: Label
    above: int
    below: int
    body_mm: tuple[float, float, float]

    @property
    def kind(self) -> int:
        """Which of the two colours it has."""
        return _ODD if self.above % 2 else _EVEN

    @property
    def colour(self) -> Colour:
        """Of its outline and numbers."""
        return _COLOURS[self.kind]

    @property
    def words(self) -> str:
        """Its level, with a question mark where nobody is sure."""
        if self.label.name.startswith(COUNTED):
            return "level?"
        return self.label.name.upper() + ("?" if self.label.numbering == "estimated" else "")


def levels_picture(scan: Scan, labels: VoxelLabels) -> bytes | None:
    """The numbered picture as PNG; None where no vertebra was told apart."""
    spine = from_above(labels)
    if not spine:
        return None
    box = _box(scan, labels, [label.value for label in spine])
    bodies = np.zeros((box.hu.shape[0], box.hu.shape[2]), dtype=np.uint8)
    found = []
    places = find_objects(box.labels)
    for above, label in enumerate(spine, start=1):
        place = places[label.value - 1]
        half = _front_half(box, label.value, place)
        down, back, across = _middle_mm(half, place, box.step_mm)
        found.append(_Vertebra(label, above, len(spine) + 1 - above, (down, back, across)))
        bodies[place[0], place[2]][half.any(axis=1)] = found[-1].kind
    scale = float(np.clip(_HEIGHT_PX / (box.hu.shape[0] * box.step_mm[0]), _LEAST_SCALE, _MOST_SCALE))
    kinds = _kinds(labels, found)
    front, side = _front(box, scale, kinds, bodies), _side(box, scale, kinds, found)
    return png_bytes(_laid_out(front, side, found, scale))


def _kinds(labels: VoxelLabels, found: Sequence[_Vertebra]) -> Kinds:
    """(256,) label value -> what is drawn in one colour."""
    table = np.zeros(256, dtype=np.uint8)
    for one in labels.labels:
        if one.name.startswith("rib"):
            table[one.value] = _RIB
        if one.name in ("sacrum", "hip", "skull"):
            table[one.value] = _OTHER
    for vertebra in found:
        table[vertebra.label.value] = vertebra.kind
    return table


def _box(scan: Scan, labels: VoxelLabels, values: list[int]) -> _Box:
    """The part of the scan about the spine, upright: of its axes the nearest to the patient's."""
    boxes = measured(labels)[1][values]
    spans = np.stack([boxes[:, :, 0].min(axis=0), boxes[:, :, 1].max(axis=0)], axis=1)  # of (slice, row, column)
    steps_mm = np.linalg.norm(labels.affine[:3, :3], axis=0)
    turn = labels.affine[:3, :3] / steps_mm  # [x y z, column row slice]
    cut, axes = [slice(0, 0)] * 3, []
    flips = []
    for world, sign, (before_mm, after_mm) in (
        (2, -1.0, (_END_MM, _END_MM)),
        (1, 1.0, (_FRONT_MM, _BEHIND_MM)),
        (0, 1.0, (_SIDE_MM, _SIDE_MM)),
    ):
        axis = max((a for a in range(3) if a not in axes), key=lambda a: abs(turn[world, 2 - a]))  # arrays: slice, row, column
        axes.append(axis)
        along = turn[world, 2 - axis] * sign > 0.0
        flips.append(slice(None, None, 1 if along else -1))
        low, high = (int(edge) for edge in spans[axis])
        middle = (low + high) // 2
        start, end = (low, high) if world else (middle, middle)  # sideways: from the middle of the spine, and all of it
        first, last = (before_mm, after_mm) if along else (after_mm, before_mm)
        step_mm = steps_mm[2 - axis]
        cut[axis] = slice(max(0, min(low, start - round(first / step_mm))), max(high, end + round(last / step_mm)))
    part, upright = tuple(cut), tuple(flips)
    hu = np.ascontiguousarray(scan.hu[part].transpose(axes)[upright])
    seen = np.ascontiguousarray(expanded(labels).voxels[part].transpose(axes)[upright])
    return _Box(hu, seen, steps_mm[[2 - axis for axis in axes]])


def _front_half(box: _Box, value: int, place: tuple[slice, slice, slice]) -> npt.NDArray[np.bool_]:
    """Where a vertebra's front half is, its body and not its spinous process, within its place in the box."""
    own: npt.NDArray[np.bool_] = box.labels[place] == value
    return own[:, : (own.shape[1] + 1) // 2]


def _middle_mm(half: npt.NDArray[np.bool_], place: tuple[slice, slice, slice], step_mm: FloatArray) -> tuple[float, ...]:
    middle = []
    for axis in range(3):
        along = half.sum(axis=tuple(a for a in range(3) if a != axis))
        index = float(np.average(np.arange(len(along)), weights=along)) + place[axis].start + 0.5
        middle.append(index * float(step_mm[axis]))
    return tuple(middle)


def _front(box: _Box, scale: float, kinds: Kinds, bodies: Kinds) -> Image.Image:
    """As a radiograph from the front: dense bone adds up along the way; the patient's right is on the left."""
    dense = np.asarray(np.clip(box.hu, _SOFT_HU, _DENSE_HU).mean(axis=1, dtype=np.float32) - np.float32(_SOFT_HU))
    step_mm = (float(box.step_mm[0]), float(box.step_mm[2]))
    picture = _resized(_stretched(dense, float(np.percentile(dense, 99.5))), step_mm, scale)
    seen = kinds[box.labels]
    for kind in (_OTHER, _RIB):
        picture = _outlined(picture, (seen == kind).any(axis=1), _COLOURS[kind])
    for kind in (_ODD, _EVEN):
        picture = _outlined(picture, bodies == kind, _COLOURS[kind])
    return picture


def _side(box: _Box, scale: float, kinds: Kinds, found: Sequence[_Vertebra]) -> Image.Image:
    """A section along the spine's middle, straightened sideways; the patient's front is on the left."""
    rows = np.arange(box.hu.shape[0])
    middles = sorted((one.body_mm[0] / box.step_mm[0], one.body_mm[2] / box.step_mm[2]) for one in found)
    columns = np.interp(rows, [down for down, _ in middles], [across for _, across in middles])
    reach = max(1, round(_SLAB_MM / float(box.step_mm[2])))
    at = np.clip(np.rint(columns).astype(np.int64)[:, None] + np.arange(-reach, reach + 1), 0, box.hu.shape[2] - 1)
    slab: npt.NDArray[np.float32] = np.mean([box.hu[rows, :, at[:, k]] for k in range(at.shape[1])], axis=0, dtype=np.float32)
    step_mm = (float(box.step_mm[0]), float(box.step_mm[1]))
    picture = _resized(_stretched(np.asarray(slab - np.float32(_SIDE_LOW_HU)), _SIDE_HIGH_HU - _SIDE_LOW_HU), step_mm, scale)
    seen = kinds[box.labels[rows, :, at[:, reach]]]
    for kind, colour in _COLOURS.items():
        picture = _outlined(picture, seen == kind, colour)
    return picture


def _stretched(values: npt.NDArray[np.float32], full: float) -> Grey:
    share = np.clip(values / max(full, 1.0), 0.0, 1.0)
    return np.asarray(np.rint(255.0 * share), dtype=np.uint8)


def _resized(grey: Grey, step_mm: tuple[float, float], scale: float) -> Image.Image:
    rows, columns = grey.shape
    size = (round(columns * step_mm[1] * scale), round(rows * step_mm[0] * scale))
    return Image.fromarray(grey).resize(size, Image.Resampling.BICUBIC).convert("RGB")


def _outlined(picture: Image.Image, mask: npt.NDArray[np.bool_], colour: Colour) -> Image.Image:
    """The picture with the edge of a region drawn on it; the region's grid is stretched to the picture's."""
    if not mask.any():
        return picture
    soft = Image.fromarray(mask.astype(np.uint8) * 255).resize(picture.size, Image.Resampling.BILINEAR)
    inside = np.asarray(soft) >= 128
    core = inside
    for _ in range(_EDGE_PX):
        less = core.copy()
        less[1:] &= core[:-1]
        less[:-1] &= core[1:]
        less[:, 1:] &= core[:, :-1]
        less[:, :-1] &= core[:, 1:]
        core = less
    out = np.array(picture)
    out[inside & ~core] = colour
    return Image.fromarray(out)


def _laid_out(front: Image.Image, side: Image.Image, found: Sequence[_Vertebra], scale: float) -> Image.Image:
    width = front.width + _MIDDLE_PX + side.width + 2 * _RIM_PX
    page = Image.new("RGB", (width, _HEAD_PX + front.height + _FOOT_PX), _PAPER)
    left, right = _RIM_PX, _RIM_PX + front.width + _MIDDLE_PX
    page.paste(front, (left, _HEAD_PX))
    page.paste(side, (right, _HEAD_PX))
    pen = ImageDraw.Draw(page)
    for one in found:
        down = _HEAD_PX + one.body_mm[0] * scale
        places = (left + one.body_mm[2] * scale, right + one.body_mm[1] * scale)
        pen.line((places[0], down, places[1], down), fill=_LINE, width=1)
        _write_middle(pen, one, left + front.width, down)
        for x in places:
            _chip(pen, x, down, one)
    _write_head(pen, page.width, found)
    _write_ends(pen, left, front.width, "R", "L", "from the front, as in a radiograph")
    _write_ends(pen, right, side.width, "A", "P", "section along the middle")
    _write_foot(pen, page.size, scale)
    return page


def _write_middle(pen: ImageDraw.ImageDraw, one: _Vertebra, left: float, down: float) -> None:
    pen.rectangle((left, down - 13, left + _MIDDLE_PX - 1, down + 13), fill=_PAPER)
    pen.text((left + 20, down), str(one.above), font=font(24, bold=True), fill=one.colour, anchor="lm")
    pen.text((left + 62, down), one.words, font=font(20, bold=True), fill=_INK, anchor="lm")
    cut = "" if one.label.complete else ", cut"
    pen.text((left + _MIDDLE_PX - 12, down), f"{one.below} from below{cut}", font=font(15, bold=False), fill=_PALE, anchor="rm")


def _chip(pen: ImageDraw.ImageDraw, x: float, y: float, one: _Vertebra) -> None:
    pen.ellipse((x - _CHIP_PX, y - _CHIP_PX, x + _CHIP_PX, y + _CHIP_PX), fill=_PAPER, outline=one.colour, width=2)
    pen.text((x, y), str(one.above), font=font(20, bold=True), fill=_INK, anchor="mm")


def _write_head(pen: ImageDraw.ImageDraw, width: int, found: Sequence[_Vertebra]) -> None:
    pen.text((_RIM_PX, 14), f"{len(found)} vertebrae, counted from above", font=font(24, bold=True), fill=_INK, anchor="lt")
    words = word_on(tuple(one.label for one in found))
    pen.text((width - _RIM_PX, 18), words, font=font(17, bold=False), fill=_PALE, anchor="rt")


def _write_ends(pen: ImageDraw.ImageDraw, x: float, width: float, first: str, last: str, title: str) -> None:
    """The patient's directions at both ends of a view, and what it is."""
    pen.text((x + 4, _HEAD_PX - 8), first, font=font(24, bold=True), fill=_INK, anchor="lb")
    pen.text((x + width - 4, _HEAD_PX - 8), last, font=font(24, bold=True), fill=_INK, anchor="rb")
    pen.text((x + width / 2, _HEAD_PX - 10), title, font=font(17, bold=False), fill=_PALE, anchor="mb")


def _write_foot(pen: ImageDraw.ImageDraw, size: tuple[int, int], scale: float) -> None:
    """What the colours are, and a scale bar."""
    down, x = size[1] - _FOOT_PX / 2, float(_RIM_PX)
    small = font(17, bold=False)
    for kind, words in ((_ODD, ""), (_EVEN, "vertebrae"), (_RIB, "ribs"), (_OTHER, "sacrum, hip bones, skull")):
        pen.rectangle((x, down - 8, x + 24, down + 8), outline=_COLOURS[kind], width=_EDGE_PX)
        pen.text((x + 32, down), words, font=small, fill=_PALE, anchor="lm")
        x += 32 + pen.textlength(words, font=small) + (24 if words else 0)
    bar, right = _BAR_MM * scale, size[0] - _RIM_PX
    pen.line((right - bar, down + 4, right, down + 4), fill=_INK, width=3)
    pen.text((right - bar / 2, down), f"{_BAR_MM:g} mm", font=small, fill=_INK, anchor="mb")
