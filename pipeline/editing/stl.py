"""Surfaces as binary STL."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from batchone.pipeline.values import Mesh


def write_stl(path: Path, mesh: Mesh, title: str) -> None:
    """Write a binary STL, LPS mm, with a header that depends on the title only."""
    record = np.zeros(len(mesh.faces), dtype=[("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
    corners = mesh.vertices_mm[mesh.faces]
    normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    record["normal"] = normal / np.where(length > 0, length, 1.0)
    record["corners"] = corners
    header = f"batchone {title} LPS mm".encode("ascii", "replace")[:80].ljust(80, b"\0")
    with path.open("wb") as stream:
        stream.write(header)
        stream.write(np.uint32(len(record)).tobytes())
        stream.write(record.tobytes())
