"""A layer as a picture: outlines, and what the laser draws within them by region, lines coloured by when they are scanned."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw

from batchone.pipeline.process import Region
from batchone.pipeline.values import FloatArray
from batchone.slicer.cli_format import CliFile
from batchone.slicer.cli_header import region_of

_SIDE_PX = 1600  # longer side of the drawn box
_EDGE_PX = 40
_TIMES = 3  # drawn so many times larger and reduced: lines of a tenth of a millimetre stay apart
_PAPER, _SOLID, _OUTLINE = (255, 255, 255), (236, 239, 242), (20, 24, 28)
_PATH = (120, 120, 120)  # of the beam along contours
_CORE = np.array([68.0, 1.0, 84.0]), np.array([253.0, 160.0, 30.0])  # scanned first and last
_COLOURS: dict[Region | None, tuple[FloatArray, FloatArray]] = {
    "up-skin": (np.array([0.0, 70.0, 30.0]), np.array([90.0, 200.0, 110.0])),
    "down-skin": (np.array([8.0, 48.0, 107.0]), np.array([107.0, 174.0, 230.0])),
}


def layer_png(cli: CliFile, layer: int) -> bytes:
    """PNG of one layer of a layer file, from above, x to the right and y up; what lies in it fills the picture.

    Core from violet to orange, up-skin green, down-skin blue, contours of the beam grey.
    """
    region = [region_of(label) for label in cli.labels]
    loops, paths = (
        [loop for label in range(len(region)) if (region[label] is None) is outline for loop in cli.layers.loops(layer, label)]
        for outline in (True, False)
    )
    corners = np.concatenate([*loops, np.zeros((0, 2))]) if loops else np.array([corner[:2] for corner in cli.header.box_mm])
    low, high = corners.min(axis=0), corners.max(axis=0)
    scale = _TIMES * _SIDE_PX / max(float((high - low).max()), 1e-6)
    edge = _TIMES * _EDGE_PX

    def at(points_mm: FloatArray) -> list[tuple[float, float]]:
        x = edge + (points_mm[:, 0] - low[0]) * scale
        y = edge + (high[1] - points_mm[:, 1]) * scale
        return list(zip(x.tolist(), y.tolist(), strict=True))

    width, height = (int(np.ceil(side * scale)) + 2 * edge for side in high - low)
    picture = Image.new("RGB", (width, height), _PAPER)
    pen = ImageDraw.Draw(picture)
    outlines = [(loop, _area(loop)) for loop in loops]
    for loop, area in sorted(outlines, key=lambda one: -abs(one[1])):  # what lies within is drawn later
        pen.polygon(at(loop), fill=_SOLID if area > 0.0 else _PAPER)
    for label, of in enumerate(region):
        lines, (first, last) = cli.hatches.of(layer, label), _COLOURS.get(of, _CORE)
        for k, line in enumerate(lines):
            red, green, blue = (first + (last - first) * k / max(len(lines) - 1, 1)).astype(int).tolist()
            pen.line(at(line.reshape(2, 2)), fill=(red, green, blue), width=_TIMES)
    for loop in paths:
        pen.line(at(np.vstack([loop, loop[:1]])), fill=_PATH, width=_TIMES)
    for loop, _ in outlines:
        pen.line(at(np.vstack([loop, loop[:1]])), fill=_OUTLINE, width=2 * _TIMES)
    file = io.BytesIO()
    picture.resize((width // _TIMES, height // _TIMES), Image.Resampling.LANCZOS).save(file, "PNG")
    return file.getvalue()


def _area(loop: FloatArray) -> float:
    x, y = (loop - loop[0]).T
    return 0.5 * float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))
