"""Layers of 30 um of every kind of device and of real bones: volume, closed contours, blank layers, areas of 200 of them, and
the volume of what is read back from their file. Ends with 1 where one is beyond a limit.

    python -m benchmarks.layers

Areas are compared with sections by manifold3d, volume with that of the mesh. Devices are those that the families make for bones
of known shape, the way up that their process prints them; bones are real, where ``BATCHONE_TEST_DATA`` names the folder.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np

from batchone.pipeline.job.measure import stl_corners
from batchone.pipeline.kernel_cache import use_kernel_cache
from batchone.pipeline.values import Mesh
from batchone.samples.faulty.good import bones, good, there
from batchone.samples.layer_truth import MOST_AREA, MOST_VOLUME, SECTIONS, layer_truth, on_the_plate
from batchone.slicer.orient import stand
from batchone.slicer.plate import usable_box_mm

LAYER_MM = 0.03


def main() -> int:
    use_kernel_cache()
    print(f"layers of {LAYER_MM:g} mm; areas of {SECTIONS} layers at random")
    print(f"{'':34} {'triangles':>9} {'layers':>7} {'blank':>6} {'broken':>7} {'volume':>10} {'in file':>10} {'worst area':>11}")
    print(f"{'must be at most':34} {'':9} {'':7} {0:6} {0:7} {MOST_VOLUME:10.4%} {MOST_VOLUME:10.4%} {MOST_AREA:11.4%}")
    wrong = []
    for name, mesh in chain(real_bones(), devices()):
        found = layer_truth(mesh, LAYER_MM)
        print(
            f"{name:34} {len(mesh.faces):9,} {found.layers:7,} {found.blank:6} {found.broken:7}"
            f" {found.volume:10.4%} {found.file_volume:10.4%} {found.area:11.4%}",
            flush=True,
        )
        if not found.holds_flat:
            wrong.append(name)
    print(f"beyond a limit: {', '.join(wrong) or 'none'}")
    return 1 if wrong else 0


def devices() -> Iterator[tuple[str, Mesh]]:
    """The parts of a good device of each kind, as they stand on the plate."""
    for kind in there():
        case = good(kind, *bones(kind)[0])
        for part in case.device.parts:
            rotation = stand(part, case.process, box_mm=usable_box_mm(case.machine)).rotation
            yield f"{kind} {part.name}", on_the_plate(part.mesh.vertices_mm @ rotation.T, part.mesh.faces)


def real_bones() -> Iterator[tuple[str, Mesh]]:
    """Bones of real people, as their files have them."""
    data = os.environ.get("BATCHONE_TEST_DATA")
    if data is None:
        print("real bones: left out, BATCHONE_TEST_DATA names no folder")
        return
    for path in sorted((Path(data) / "bones").glob("*.stl")):
        corners = np.asarray(stl_corners(path.read_bytes()), dtype=np.float64).reshape(-1, 3)
        points, faces = np.unique(corners, axis=0, return_inverse=True)
        yield path.stem, on_the_plate(points, faces.reshape(-1, 3).astype(np.int32))


if __name__ == "__main__":
    sys.exit(main())
