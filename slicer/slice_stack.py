"""Layers as the slice extension of 3MF has them: polygons of vertices, one stack for each part."""

from __future__ import annotations

import numpy as np

from batchone.slicer.cli_format import CliFile
from batchone.slicer.layers import Layers
from batchone.slicer.threemf import Item, read_3mf, write_3mf


def with_slices(plate_3mf: bytes, cli: CliFile) -> bytes:
    """A plate with the layers of a layer file: bodies as they stand, since layers want poses that do not tilt.

    Raises
    ------
    MachineError
        The plate cannot be read.
    """
    items = read_3mf(plate_3mf)
    stacks = (slice_stack(cli.layers, cli.labels.index(item.name)) if item.name in cli.labels else b"" for item in items)
    placed = [Item(item.name, item.mesh.moved(item.pose), np.eye(4), stack) for item, stack in zip(items, stacks, strict=True)]
    return write_3mf(placed, title="build plate with layers", notes={"frame": "the machine's plate, mm, z up"})


def slice_stack(layers: Layers, part: int) -> bytes:
    """The ``slicestack`` element of one part, of id ``{id}``: z and coordinates in mm, six decimals; to the part's last layer."""
    of_part = np.flatnonzero(layers.loop_part == part)
    last = int(layers.loop_layer[of_part[-1]]) if len(of_part) else -1
    rows = ['<s:slicestack id="{id}" zbottom="0">\n']
    at = 0
    for layer in range(last + 1):
        rows.append(f'<s:slice ztop="{(layer + 1) * layers.layer_mm:.6f}">')
        points, polygons, count = [], [], 0
        while at < len(of_part) and layers.loop_layer[of_part[at]] == layer:
            loop = of_part[at]
            corners = layers.points_mm[layers.loop_start[loop] : layers.loop_start[loop + 1]]
            points.append('<s:vertex x="%.6f" y="%.6f"/>' * len(corners) % tuple(corners.ravel().tolist()))
            ends = [*range(count + 1, count + len(corners)), count]
            polygons.append(f'<s:polygon startv="{count}">' + '<s:segment v2="%d"/>' * len(ends) % tuple(ends) + "</s:polygon>")
            count += len(corners)
            at += 1
        if count:
            rows += ["<s:vertices>", *points, "</s:vertices>", *polygons]
        rows.append("</s:slice>\n")
    return "".join([*rows, "</s:slicestack>\n"]).encode("ascii")
