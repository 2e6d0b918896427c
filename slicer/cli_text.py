"""CLI 2.0 as text: slower and larger than the binary form, for readers and people that want it."""

from __future__ import annotations

import re
import struct
from dataclasses import replace
from typing import Final

import numpy as np

from batchone.pipeline.values import FloatArray
from batchone.slicer.cli_header import LONG_UNIT_MM, Header, damaged
from batchone.slicer.hatch import Hatches
from batchone.slicer.layers import Layers

_REAL: Final = r"-?\d{1,7}\.\d{1,8}"
_REALS: Final = re.compile(rf"{_REAL}(?:,{_REAL})*")
_LINE: Final = re.compile(
    rf"\$\$LAYER/(?P<z>{_REAL})|\$\$POLYLINE/(?P<id>\d{{1,5}}),(?P<dir>[01]),(?P<n>\d{{1,9}}),(?P<xy>[-0-9.,]+)"
    r"|\$\$HATCHES/(?P<hatch>\d{1,5}),(?P<lines>\d{1,9}),(?P<ends>[-0-9.,]+)"
)


def text_of(header: Header, top_mm: FloatArray, layers: Layers, hatches: Hatches) -> bytes:
    """Layers as text, millimetres with six decimals; one command on a line."""
    lines = [replace(header, binary=False, unit_mm=LONG_UNIT_MM).to_bytes().decode("ascii"), "$$GEOMETRYSTART"]
    loop, group = 0, 0
    for layer, upper_mm in enumerate(top_mm):
        lines.append(f"$$LAYER/{upper_mm:.6f}")
        while loop < len(layers.loop_layer) and layers.loop_layer[loop] == layer:
            points = layers.points_mm[layers.loop_start[loop] : layers.loop_start[loop + 1]]
            outer = int(layers.loop_area_mm2[loop] > 0.0)
            closed = _numbers(np.vstack([points, points[:1]]))
            lines.append(f"$$POLYLINE/{layers.loop_part[loop] + 1},{outer},{len(points) + 1},{closed}")
            loop += 1
        while group < len(hatches.layer) and hatches.layer[group] == layer:
            vectors = hatches.vectors_mm[hatches.start[group] : hatches.start[group + 1]]
            if len(vectors):
                lines.append(f"$$HATCHES/{hatches.part[group] + 1},{len(vectors)},{_numbers(vectors)}")
            group += 1
    return ("\n".join([*lines, "$$GEOMETRYEND"]) + "\n").encode("ascii")


def commands(text: str) -> bytes:
    """Geometry as text to the long commands of the binary form, for the one reader of both.

    Raises
    ------
    MachineError
        Anything that :func:`text_of` could not have written.
    """
    lines = text.split("\n")
    if lines[:2] != ["", "$$GEOMETRYSTART"] or lines[-2:] != ["$$GEOMETRYEND", ""]:
        raise damaged("geometry as text does not lie between $$GEOMETRYSTART and $$GEOMETRYEND")
    found = []
    for line in lines[2:-2]:
        command = _LINE.fullmatch(line)
        if command is None:
            raise damaged(f"{line[:40]!r} is no layer, polyline or hatches")
        if command["z"]:
            found.append(struct.pack("<Hf", 127, float(command["z"])))
        elif command["id"]:
            count = int(command["n"])
            found += [struct.pack("<H3i", 130, int(command["id"]), int(command["dir"]), count), _reals(command["xy"], 2 * count)]
        else:
            count = int(command["lines"])
            found += [struct.pack("<H2i", 132, int(command["hatch"]), count), _reals(command["ends"], 4 * count)]
    return b"".join(found)


def _numbers(values: FloatArray) -> str:
    return ",".join(["%.6f"] * values.size) % tuple(values.ravel().tolist())


def _reals(text: str, count: int) -> bytes:
    if not _REALS.fullmatch(text) or text.count(",") + 1 != count:
        raise damaged(f"{text.count(',') + 1} numbers where {count} are announced")
    return np.array(text.split(","), dtype=np.float64).astype("<f4").tobytes()
