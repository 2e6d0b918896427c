"""Surfaces as MZ3, NiiVue's own binary format: RAS mm, with one number for each vertex where there is one."""

from __future__ import annotations

import numpy as np

from batchone.pipeline.values import FloatArray, Mesh

_MAGIC = 0x5A4D  # "MZ"; https://github.com/neurolabusc/surf-ice/tree/master/mz3
_FACES, _VERTICES, _SCALARS = 1, 2, 8
_RAS = np.array([-1.0, -1.0, 1.0])  # LPS -> RAS: half a turn about z, so that no triangle changes its sense


def mz3_bytes(mesh: Mesh, values: FloatArray | None = None) -> bytes:
    """A surface; ``values`` (n,) one for each vertex, not a number where unknown."""
    attributes = _FACES | _VERTICES | (0 if values is None else _SCALARS)
    head = np.array([_MAGIC, attributes], dtype="<u2").tobytes()
    head += np.array([len(mesh.faces), len(mesh.vertices_mm), 0], dtype="<u4").tobytes()
    body = mesh.faces.astype("<i4").tobytes() + (mesh.vertices_mm * _RAS).astype("<f4").tobytes()
    return head + body + (b"" if values is None else values.astype("<f4").tobytes())
