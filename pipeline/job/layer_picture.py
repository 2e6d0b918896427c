"""Layers as pictures: outlines of parts and supports, and what the laser draws within them by region, lines coloured by when they
are scanned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
from PIL import Image, ImageDraw

from batchone.pipeline.job.annotate import Colour, font, png_bytes
from batchone.pipeline.job.pictures import Picture
from batchone.pipeline.process import Region
from batchone.pipeline.side_by_side import side_by_side
from batchone.pipeline.values import FloatArray
from batchone.slicer.cli_format import CliFile
from batchone.slicer.cli_header import region_of

_SIDE_PX, _JOB_SIDE_PX = 1600, 900  # longer side of the drawn box; of pictures that every job holds
_EDGE_PX = 40
_FOOT_PX, _ROW_PX = 130, 52  # two rows of words; one more, of lines
_LEAST_PX = 1100  # width: the words of the foot have room
_TEXT_PX = 22
_COLOURS = 128  # of the picture: a third of the bytes of full colour
_TIMES = 3  # drawn so many times larger and reduced: lines of a tenth of a millimetre stay apart
_PAPER: Colour = (255, 255, 255)
_SOLID: Colour = (236, 239, 242)
_OUTLINE: Colour = (20, 24, 28)
_PATH: Colour = (120, 120, 120)  # of the beam along contours
_SUPPORT: Colour = (255, 221, 178)
_SUPPORT_OUTLINE: Colour = (214, 112, 0)
_HUES: dict[Region, tuple[FloatArray, FloatArray]] = {  # of lines scanned first and last
    "core": (np.array([68.0, 1.0, 84.0]), np.array([150.0, 120.0, 240.0])),
    "up-skin": (np.array([0.0, 70.0, 30.0]), np.array([90.0, 200.0, 110.0])),
    "down-skin": (np.array([8.0, 48.0, 107.0]), np.array([80.0, 190.0, 235.0])),
}
_NONE = np.empty((0, 4))
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

    Lines of the core are violet, of up-skin green, of down-skin blue, the later the paler; contours of the beam are grey. The
    drawing is ``_EDGE_PX`` from the left and the top; a foot below it says what is seen.
    """
    regions = [region_of(label) for label in cli.labels]
    bodies, drawn = ([k for k, region in enumerate(regions) if (region is None) is body] for body in (True, False))
    loops = [(loop, _SUPPORTS in cli.labels[k]) for k in bodies for loop in cli.layers.loops(layer, k)]
    paths = [loop for k in drawn for loop in cli.layers.loops(layer, k)]
    lines = _lines_of(cli, layer, regions)
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
    for region, vectors in lines.items():
        for k, line in enumerate(vectors):
            pen.line(at(line.reshape(2, 2)), fill=_hue(region, k, len(vectors)), width=_TIMES)
    for loop in paths:
        pen.line(at(np.vstack([loop, loop[:1]])), fill=_PATH, width=_TIMES)
    for loop, _, support in outlines:
        pen.line(at(np.vstack([loop, loop[:1]])), fill=_SUPPORT_OUTLINE if support else _OUTLINE, width=2 * _TIMES)
    small = picture.resize((width // _TIMES, height // _TIMES), Image.Resampling.LANCZOS)
    swatches = [("part", _SOLID, _OUTLINE)]
    if any(_SUPPORTS in label for label in cli.labels):
        swatches.append(("supports", _SUPPORT, _SUPPORT_OUTLINE))
    if paths:
        swatches.append(("contours of the beam", _PAPER, _PATH))
    counts = {region: len(vectors) for region, vectors in lines.items()}
    whole = _with_foot(small, said_of(cli, layer), scale / _TIMES, swatches=swatches, counts=counts)
    return png_bytes(whole.quantize(_COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE))


def _lines_of(cli: CliFile, layer: int, regions: Sequence[Region | None]) -> dict[Region, FloatArray]:
    """The lines of each region that has some in the layer; lines under the label of a body are of its core."""
    found = {
        region: np.concatenate(
            [cli.hatches.of(layer, k) for k, one in enumerate(regions) if (one or "core") == region] or [_NONE]
        )
        for region in _HUES
    }
    return {region: vectors for region, vectors in found.items() if len(vectors)}


def _hue(region: Region, number: int, count: int) -> Colour:
    """Of one of the lines of a region, by when it is scanned."""
    first, last = _HUES[region]
    red, green, blue = (first + (last - first) * number / max(count - 1, 1)).astype(int).tolist()
    return red, green, blue


def _with_foot(
    drawing: Image.Image,
    title: str,
    px_per_mm: float,
    *,
    swatches: Sequence[tuple[str, Colour, Colour]],
    counts: Mapping[Region, int],
) -> Image.Image:
    """The drawing above a scale bar, the title and what the colours mean."""
    foot_px = _FOOT_PX + (_ROW_PX if counts else 0)
    picture = Image.new("RGB", (max(drawing.width, _LEAST_PX), drawing.height + foot_px), _PAPER)
    picture.paste(drawing, (0, 0))
    pen, words = ImageDraw.Draw(picture), font(_TEXT_PX, bold=False)
    y = drawing.height + _TEXT_PX
    pen.text((_EDGE_PX, y), f"{title}; from above, x to the right", font=words, fill=_OUTLINE, anchor="lm")
    bar_mm = next((step for step in _BAR_STEPS_MM if step * px_per_mm <= _BAR_SHARE * picture.width), _BAR_STEPS_MM[-1])
    right = picture.width - _EDGE_PX
    pen.line((right - bar_mm * px_per_mm, y + _ROW_PX, right, y + _ROW_PX), fill=_OUTLINE, width=4)
    pen.text((right, y + _ROW_PX - 10), f"{bar_mm:g} mm", font=words, fill=_OUTLINE, anchor="rb")
    x, y = _EDGE_PX, y + _ROW_PX
    for text, fill, outline in swatches:
        pen.rectangle((x, y - 14, x + 40, y + 14), fill=fill, outline=outline, width=3)
        pen.text((x + 52, y), text, font=words, fill=_OUTLINE, anchor="lm")
        x += 52 + int(words.getlength(text)) + 40
    x, y = _EDGE_PX, y + _ROW_PX
    for region, count in counts.items():
        for k in range(40):
            pen.line((x + 2 * k, y - 14, x + 2 * k, y + 14), fill=_hue(region, k, 40), width=2)
        text = f"{count:,} lines of {region}, first to last" if region == next(iter(counts)) else f"{count:,} of {region}"
        pen.text((x + 92, y), text, font=words, fill=_OUTLINE, anchor="lm")
        x += 92 + int(words.getlength(text)) + 40
    return picture


def _area(loop: FloatArray) -> float:
    x, y = (loop - loop[0]).T
    return 0.5 * float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))
