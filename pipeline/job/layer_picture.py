"""Layers as pictures: outlines of parts and supports, and the lines of the laser coloured by when they are scanned."""

from __future__ import annotations

from functools import partial

import numpy as np
from PIL import Image, ImageDraw

from batchone.pipeline.job.annotate import Colour, font, png_bytes
from batchone.pipeline.job.pictures import Picture
from batchone.pipeline.side_by_side import side_by_side
from batchone.pipeline.values import FloatArray
from batchone.slicer.cli_format import CliFile

_SIDE_PX, _JOB_SIDE_PX = 1600, 1000  # longer side of the drawn box; of pictures that every job holds
_EDGE_PX = 40
_FOOT_PX = 130
_LEAST_PX = 1100  # width: the words of the foot have room
_TEXT_PX = 22
_COLOURS = 128  # of the picture: a third of the bytes of full colour
_TIMES = 3  # drawn so many times larger and reduced: lines of a tenth of a millimetre stay apart
_PAPER: Colour = (255, 255, 255)
_SOLID: Colour = (236, 239, 242)
_OUTLINE: Colour = (20, 24, 28)
_SUPPORT: Colour = (255, 221, 178)
_SUPPORT_OUTLINE: Colour = (214, 112, 0)
_FIRST, _LAST = np.array([68.0, 1.0, 84.0]), np.array([70.0, 160.0, 240.0])  # scanned first and last
_SUPPORTS = "supports-"  # contract: stands in the name of a body that carries a part
_BAR_STEPS_MM = (50.0, 20.0, 10.0, 5.0, 2.0, 1.0, 0.5, 0.2, 0.1)
_BAR_SHARE = 0.15  # of the width: the bar is the longest step within it
_HEIGHTS = (("low", 1.0 / 6.0), ("middle", 0.5), ("high", 5.0 / 6.0))  # the middles of the thirds of a build


def layer_pictures(cli: CliFile) -> tuple[Picture, ...]:
    """``layer-low.png``, ``layer-middle.png``, ``layer-high.png``: the middles of the thirds of a build."""
    chosen = [(name, min(int(share * cli.layers.count), cli.layers.count - 1)) for name, share in _HEIGHTS]
    drawn = side_by_side([partial(layer_png, cli, layer, side_px=_JOB_SIDE_PX) for _, layer in chosen])
    return tuple(Picture(f"layer-{name}.png", said_of(cli, layer), png) for (name, layer), png in zip(chosen, drawn, strict=True))


def said_of(cli: CliFile, layer: int) -> str:
    """Number and height of a layer."""
    return f"layer {layer + 1:,} of {cli.layers.count:,}, up to {cli.top_mm[layer]:.2f} mm above the plate"


def layer_png(cli: CliFile, layer: int, *, side_px: int = _SIDE_PX) -> bytes:
    """PNG of one layer of a layer file, from above, x to the right and y up; what lies in it fills the picture.

    The drawing is ``_EDGE_PX`` from the left and the top; a foot below it says what is seen.
    """
    loops = [(loop, _SUPPORTS in label) for part, label in enumerate(cli.labels) for loop in cli.layers.loops(layer, part)]
    lines = cli.hatches.of(layer)
    corners = np.concatenate([loop for loop, _ in loops] or [np.array([corner[:2] for corner in cli.header.box_mm])])
    low, high = corners.min(axis=0), corners.max(axis=0)
    scale = _TIMES * side_px / max(float((high - low).max()), 1e-6)
    edge = _TIMES * _EDGE_PX

    def at(points_mm: FloatArray) -> list[tuple[float, float]]:
        x = edge + (points_mm[:, 0] - low[0]) * scale
        y = edge + (high[1] - points_mm[:, 1]) * scale
        return list(zip(x.tolist(), y.tolist(), strict=True))

    width, height = (int(np.ceil(side * scale)) + 2 * edge for side in high - low)
    picture = Image.new("RGB", (width, height), _PAPER)
    pen = ImageDraw.Draw(picture)
    outlines = sorted(((loop, _area(loop), support) for loop, support in loops), key=lambda one: -abs(one[1]))
    for loop, area, support in outlines:  # what lies within is drawn later
        pen.polygon(at(loop), fill=_PAPER if area < 0.0 else _SUPPORT if support else _SOLID)
    for k, line in enumerate(lines):
        red, green, blue = (_FIRST + (_LAST - _FIRST) * k / max(len(lines) - 1, 1)).astype(int).tolist()
        pen.line(at(line.reshape(2, 2)), fill=(red, green, blue), width=_TIMES)
    for loop, _, support in outlines:
        pen.line(at(np.vstack([loop, loop[:1]])), fill=_SUPPORT_OUTLINE if support else _OUTLINE, width=2 * _TIMES)
    small = picture.resize((width // _TIMES, height // _TIMES), Image.Resampling.LANCZOS)
    supported = any(_SUPPORTS in label for label in cli.labels)
    whole = _with_foot(small, said_of(cli, layer), scale / _TIMES, lines=len(lines), supported=supported)
    return png_bytes(whole.quantize(_COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE))


def _with_foot(drawing: Image.Image, title: str, px_per_mm: float, *, lines: int, supported: bool) -> Image.Image:
    """The drawing above a scale bar, the title and what the colours mean."""
    picture = Image.new("RGB", (max(drawing.width, _LEAST_PX), drawing.height + _FOOT_PX), _PAPER)
    picture.paste(drawing, (0, 0))
    pen, words = ImageDraw.Draw(picture), font(_TEXT_PX, bold=False)
    y = drawing.height + _TEXT_PX
    pen.text((_EDGE_PX, y), f"{title}; from above, x to the right", font=words, fill=_OUTLINE, anchor="lm")
    bar_mm = next((step for step in _BAR_STEPS_MM if step * px_per_mm <= _BAR_SHARE * picture.width), _BAR_STEPS_MM[-1])
    right = picture.width - _EDGE_PX
    pen.line((right - bar_mm * px_per_mm, y + 52, right, y + 52), fill=_OUTLINE, width=4)
    pen.text((right, y + 42), f"{bar_mm:g} mm", font=words, fill=_OUTLINE, anchor="rb")
    x, y = _EDGE_PX, y + 52
    for text, fill, outline in (("part", _SOLID, _OUTLINE), *([("supports", _SUPPORT, _SUPPORT_OUTLINE)] if supported else [])):
        pen.rectangle((x, y - 14, x + 40, y + 14), fill=fill, outline=outline, width=3)
        pen.text((x + 52, y), text, font=words, fill=_OUTLINE, anchor="lm")
        x += 52 + int(words.getlength(text)) + 40
    if lines:
        for k in range(40):
            red, green, blue = (_FIRST + (_LAST - _FIRST) * k / 39).astype(int).tolist()
            pen.line((x + 2 * k, y - 14, x + 2 * k, y + 14), fill=(red, green, blue), width=2)
        pen.text((x + 92, y), f"{lines:,} lines of the laser, first to last", font=words, fill=_OUTLINE, anchor="lm")
    return picture


def _area(loop: FloatArray) -> float:
    x, y = (loop - loop[0]).T
    return 0.5 * float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))
