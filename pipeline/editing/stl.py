"""Surfaces as binary STL."""

from __future__ import annotations

from pathlib import Path

from batchone.pipeline.job.measure import stl_bytes
from batchone.pipeline.values import Mesh


def write_stl(path: Path, mesh: Mesh, title: str) -> None:
    """Write a binary STL, LPS mm, with a header that depends on the title only."""
    path.write_bytes(stl_bytes(mesh, f"batchone {title} LPS mm".encode("ascii", "replace")[:80].ljust(80, b"\0")))
