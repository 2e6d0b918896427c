"""A small picture of what stands on the plate, from its layers: for people who look at a 3MF file in a folder."""

from __future__ import annotations

import io
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from batchone.pipeline.values import FloatArray
from batchone.slicer.layers import Layers

_SIDE_PX: Final = 256  # of the square picture
_TIMES: Final = 2  # drawn so many times larger and reduced
_LAYERS: Final = 96  # drawn, from the lowest up
_LEAN: Final = 0.6  # a layer lies so much of its height further up in the picture, as seen from above and in front
_PAPER, _LOW, _HIGH = 255, np.array([70.0, 84.0, 110.0]), np.array([226.0, 232.0, 240.0])


def thumbnail_png(layers: Layers) -> bytes:
    """PNG of all parts, x to the right, y and z up, higher layers lighter."""
    height_mm = layers.count * layers.layer_mm * _LEAN
    low, high = layers.bounds_mm()
    high = high + np.array([0.0, height_mm])
    side_px = _SIDE_PX * _TIMES
    scale = 0.92 * side_px / float((high - low).max())
    corner = 0.5 * (side_px - scale * (high - low))
    picture = Image.new("RGB", (side_px, side_px), (_PAPER,) * 3)
    for layer in np.unique(np.linspace(0, layers.count - 1, _LAYERS).astype(int)).tolist():
        share = layer / max(layers.count - 1, 1)
        mask = Image.new("1", (side_px, side_px))
        pen = ImageDraw.Draw(mask)
        for loop, area in sorted(_loops(layers, layer), key=lambda one: -abs(one[1])):  # what lies within is drawn later
            x = corner[0] + (loop[:, 0] - low[0]) * scale
            y = side_px - corner[1] - (loop[:, 1] - low[1] + share * height_mm) * scale
            pen.polygon(list(zip(x.tolist(), y.tolist(), strict=True)), fill=int(area > 0.0))
        red, green, blue = (_LOW + share * (_HIGH - _LOW)).astype(int).tolist()
        picture.paste((red, green, blue), mask=mask)
    file = io.BytesIO()
    picture.resize((_SIDE_PX, _SIDE_PX), Image.Resampling.LANCZOS).save(file, "PNG")
    return file.getvalue()


def _loops(layers: Layers, layer: int) -> list[tuple[FloatArray, float]]:
    first, last = np.searchsorted(layers.loop_layer, (layer, layer + 1)).tolist()
    start = layers.loop_start
    return [(layers.points_mm[start[i] : start[i + 1]], float(layers.loop_area_mm2[i])) for i in range(first, last)]
