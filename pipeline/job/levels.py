"""The numbered picture: every vertebra of a scan with its count, for the person who says which level it is."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from batchone.pipeline.job.annotate import font
from batchone.pipeline.labels import is_vertebra
from batchone.pipeline.values import FloatArray, Label, VoxelLabels
from batchone.segment.label_map import expanded

LEVELS = "levels.png"

_HEIGHT_PX = 900
_FINE_MM = 1.5  # voxels that are drawn lie about so far apart
_GAP_PX, _MARGIN_PX, _TITLE_PX = 40, 90, 70
_BESIDE_MM = 50.0  # shown beside the spine: its ribs
_SPINE: tuple[tuple[int, int, int], ...] = ((196, 214, 234), (150, 184, 222))  # neighbours told apart
_OTHER, _GROUND, _INK, _MARK = (236, 230, 218), (255, 255, 255), (20, 20, 20), (150, 30, 20)
_FAR = 0.45  # of the brightness that depth takes away at the far side

Image3 = npt.NDArray[np.uint8]


def to_be_named(labels: VoxelLabels) -> bool:
    """Whether a person must look: vertebrae are there, and the number of one of them is not certain."""
    return any(is_vertebra(one.name) and one.numbering == "estimated" for one in labels.labels)


def levels_picture(labels: VoxelLabels) -> bytes:
    """Draw all labels from the front and from the left, vertebrae numbered beside both; PNG."""
    voxels, step_mm = _upright(labels)
    views = [_view(voxels, labels.labels, axis, step_mm) for axis in (1, 2)]
    width = sum(view.width for view, _ in views) + _GAP_PX + 2 * _MARGIN_PX
    canvas = Image.new("RGB", (width, max(view.height for view, _ in views) + _TITLE_PX + 10), _GROUND)
    pen, left = ImageDraw.Draw(canvas), _MARGIN_PX
    pen.text((14, 10), "Which vertebra is which level? Compare with the patient's records.", font=font(20, bold=True), fill=_INK)
    for (view, heights), title in zip(
        views, ("from the front (R on the left)", "from the patient's left (front on the left)"), strict=True
    ):
        canvas.paste(view, (left, _TITLE_PX))
        pen.text((left, 42), title, font=font(15, bold=False), fill=_INK)
        for value, y in heights.items():
            name = next(one.name for one in labels.labels if one.value == value)
            at = left - 6 if left == _MARGIN_PX else left + view.width + 6
            anchor = "rm" if left == _MARGIN_PX else "lm"
            pen.text((at, _TITLE_PX + y), _short(name), font=font(18, bold=True), fill=_MARK, anchor=anchor)
        left += view.width + _GAP_PX
    stream = io.BytesIO()
    canvas.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _short(name: str) -> str:
    return name.removeprefix("vertebra-") if name.startswith("vertebra-") else name.upper() + "?"


def _upright(labels: VoxelLabels) -> tuple[Image3, FloatArray]:
    """(z from the head down, y from the front, x from the patient's right) labels, and the step along each, mm."""
    voxels = expanded(labels).voxels
    steps = np.linalg.norm(labels.affine[:3, :3], axis=0)
    unit = labels.affine[:3, :3] / steps
    taken: list[int] = []
    order = []
    for axis, sign in ((2, -1.0), (1, 1.0), (0, 1.0)):  # z, y, x of the patient; column of the affine that runs along it most
        column = max((c for c in range(3) if c not in taken), key=lambda c: abs(unit[axis, c]))
        taken.append(column)
        order.append((2 - column, bool(unit[axis, column] * sign < 0.0), float(steps[column])))
    turned = np.transpose(voxels, [place for place, _, _ in order])
    every = [max(1, round(_FINE_MM / step)) for _, _, step in order]
    kept = tuple(slice(None, None, -n if flip else n) for n, (_, flip, _) in zip(every, order, strict=True))
    return np.ascontiguousarray(turned[kept]), np.array([n * step for n, (_, _, step) in zip(every, order, strict=True)])


def _view(voxels: Image3, labels: tuple[Label, ...], axis: int, step_mm: FloatArray) -> tuple[Image.Image, dict[int, float]]:
    """Labels seen along y (``axis`` 1, from the front) or x (2, from the left), the spine in front of all others; and the height
    of each vertebra in pixels."""
    seen = voxels if axis == 1 else voxels[:, :, ::-1]  # the patient's left is nearest
    spine = sorted((one.value for one in labels if is_vertebra(one.name)), key=lambda value: _middle(voxels, value))
    colours = np.full((256, 3), _OTHER, dtype=np.float64)
    for place, value in enumerate(spine):
        colours[value] = _SPINE[place % 2]
    image = np.full((*np.delete(seen.shape, axis), 3), _GROUND, dtype=np.float64)
    of_spine = np.isin(seen, spine)
    for shown in (seen * ~of_spine, seen * of_spine):
        depth = np.argmax(shown > 0, axis=axis)
        first = np.take_along_axis(shown, np.expand_dims(depth, axis), axis=axis).squeeze(axis)
        light = 1.0 - _FAR * depth / max(1, shown.shape[axis])
        image[first > 0] = (colours[first] * light[..., None])[first > 0]
    across = of_spine.any(axis=axis)
    step = step_mm[2 if axis == 1 else 1]
    columns = np.flatnonzero(across.any(axis=0))
    margin = round(_BESIDE_MM / step)
    image = image[:, max(0, int(columns[0]) - margin) : int(columns[-1]) + margin + 1]
    scale = _HEIGHT_PX / (image.shape[0] * step_mm[0])
    size = (max(1, round(image.shape[1] * step * scale)), _HEIGHT_PX)
    drawn = Image.fromarray(image.astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)
    return drawn, {value: (_middle(voxels, value) + 0.5) * step_mm[0] * scale for value in spine}


def _middle(voxels: Image3, value: int) -> float:
    """Middle row of a label, weighed by its voxels."""
    rows = (voxels == value).sum(axis=(1, 2))
    return float(np.average(np.arange(len(rows)), weights=rows)) if rows.any() else 0.0
