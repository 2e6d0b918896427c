"""From outlines to the layer file, run by run of layers on all cores: the lines of all layers are never held at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Final

import numpy as np

from batchone.pipeline.process import Process
from batchone.pipeline.side_by_side import side_by_side
from batchone.pipeline.values import FloatArray
from batchone.slicer.cli_format import file_of, fits_short, geometry
from batchone.slicer.decode import Words
from batchone.slicer.exposure import exposer, labels_of
from batchone.slicer.layers import Layers
from batchone.slicer.scan_time import drawn_s

_RUN: Final = 32_000  # numerical: points of outlines whose layers one core draws at a time; their lines take a few MB


def draw(layers: Layers, names: Sequence[str], process: Process, *, parts: int) -> tuple[bytes, FloatArray]:
    """Write what a laser draws of bodies, or their outlines where nothing is drawn.

    Parameters
    ----------
    layers, names
        Outlines and names of all bodies, the ``parts`` first.
    process
        How it scans.

    Returns
    -------
    tuple
        The layer file, as :func:`batchone.slicer.cli_format.write_cli` writes all of it, and (layers,) float64 seconds of
        drawing and jumping.
    """
    drawn_of = exposer(layers, names, process, parts=parts)

    def run(low: int, high: int, *, short: bool) -> tuple[Words, FloatArray] | None:
        drawn = drawn_of(low, high)
        if short and not fits_short(drawn.layers):  # round corners may be more points than a short contour can count
            return None
        seconds = drawn_s(drawn, process.scan)[low:high] if process.scan else np.zeros(high - low)
        return geometry(drawn.layers, drawn.hatches, low, high, short=short), seconds

    bounds = list(pairwise(layers.runs(_RUN)))
    for short in (True, False) if fits_short(layers) else (False,):
        done = side_by_side([partial(run, low, high, short=short) for low, high in bounds])
        found = [one for one in done if one is not None]
        if len(found) == len(done):
            break
    labels = labels_of(names, process, parts=parts)
    return file_of(layers, labels, [words for words, _ in found], short=short), np.concatenate([s for _, s in found])
