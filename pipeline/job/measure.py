"""What a mesh file measures: volume, box, centre of mass, triangles. Reads binary STL with numpy alone."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from batchone.pipeline.errors import MachineError
from batchone.pipeline.order import Model
from batchone.pipeline.values import FloatArray, Mesh, Vector

FloatingArray = npt.NDArray[np.floating]

STL_HEADER = b"batchone binary STL, unit millimetre, frame patient LPS".ljust(80)
_STL_TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_STL_PREFIX_BYTES = 84  # header and triangle count of a binary STL
_CHUNK = 1 << 18  # triangles summed at a time: bounds memory, and fixes the order of the sums


class MeshFigures(Model):
    """The figures by which one closed surface is told from another; lengths in mm, in the frame of the mesh."""

    triangles: int
    box_low_mm: Vector
    box_high_mm: Vector
    volume_mm3: float
    area_mm2: float
    centre_of_mass_mm: Vector

    def differences(self, other: MeshFigures, *, length_mm: float, relative: float) -> tuple[str, ...]:
        """Say where ``other`` differs: by more than ``length_mm`` in box or centre of mass, or ``relative`` in volume."""
        found = []
        if self.triangles != other.triangles:
            found.append(f"triangles are {other.triangles}, must be {self.triangles}")
        if not abs(self.volume_mm3 - other.volume_mm3) <= relative * abs(self.volume_mm3):
            found.append(f"volume is {other.volume_mm3:.3f} mm3, must be {self.volume_mm3:.3f} mm3 within {relative:g}")
        for what in ("box_low_mm", "box_high_mm", "centre_of_mass_mm"):
            mine, theirs = getattr(self, what), getattr(other, what)
            if not max(abs(a - b) for a, b in zip(mine, theirs, strict=True)) <= length_mm:
                name = what.removesuffix("_mm").replace("_", " ")
                found.append(f"{name} is {_words(theirs)} mm, must be {_words(mine)} mm within {length_mm:g} mm")
        return tuple(found)


def measure_mesh(mesh: Mesh) -> MeshFigures:
    """Measure a closed surface, in its own frame."""
    return measure_triangles(mesh.vertices_mm[mesh.faces])


def measure_triangles(corners_mm: npt.NDArray[np.floating]) -> MeshFigures:
    """Measure a closed surface given as (n, 3, 3) corner points; numbers rounded to 1e-6.

    Raises
    ------
    MachineError
        No triangle, or a corner that is not finite.
    """
    if len(corners_mm) == 0 or not np.isfinite(corners_mm).all():
        raise MachineError(f"mesh has {len(corners_mm)} triangles or corners that are not finite, at least 1 and all finite")
    columns = np.asarray(corners_mm).reshape(-1, 9)
    lows, highs = _extremes(columns)
    low, high = lows.reshape(3, 3).min(axis=0), highs.reshape(3, 3).max(axis=0)
    middle = (low + high) / 2.0
    volume, area, moment = 0.0, 0.0, np.zeros(3)
    for start in range(0, len(columns), _CHUNK):
        block = np.array(columns[start : start + _CHUNK].T, dtype=np.float64, order="C") - np.tile(middle, 3)[:, None]
        a, b, c = block[:3], block[3:6], block[6:]
        six_volumes = _dot(a, _cross_rows(b, c))
        volume += float(six_volumes.sum()) / 6.0
        moment += np.array([float((six_volumes * (a[k] + b[k] + c[k])).sum()) for k in range(3)]) / 24.0
        normals = _cross_rows(b - a, c - a)
        area += float(np.sqrt(_dot(normals, normals)).sum()) / 2.0
    centre = middle + (moment / volume if volume != 0.0 else 0.0)
    return MeshFigures(
        triangles=len(corners_mm),
        box_low_mm=_rounded(low),
        box_high_mm=_rounded(high),
        volume_mm3=round(volume, 6),
        area_mm2=round(area, 6),
        centre_of_mass_mm=_rounded(centre),
    )


def stl_bytes(mesh: Mesh, header: bytes = STL_HEADER) -> bytes:
    """Write a mesh as binary STL: the same mesh gives the same bytes.

    Normals are those of the corners as the file holds them, in single precision. ``header`` has 80 bytes.
    """
    data = np.zeros(_STL_PREFIX_BYTES + len(mesh.faces) * _STL_TRIANGLE.itemsize, dtype=np.uint8)
    data[:80] = np.frombuffer(header, dtype=np.uint8)
    data[80:_STL_PREFIX_BYTES].view("<u4")[0] = len(mesh.faces)
    records = data[_STL_PREFIX_BYTES:].view(_STL_TRIANGLE)
    vertices = mesh.vertices_mm.astype("<f4")
    for start in range(0, len(records), _CHUNK):
        corners = vertices[mesh.faces[start : start + _CHUNK]]
        sides = (corners[:, 1:] - corners[:, :1]).reshape(-1, 6).T.copy()
        normals = _cross_rows(sides[:3], sides[3:])
        lengths = np.sqrt(_dot(normals, normals))
        normals = np.divide(normals, lengths, out=np.zeros_like(normals), where=lengths > 0.0)
        block = records[start : start + _CHUNK]
        block["normal"] = normals.T
        block["corners"] = corners
    return data.tobytes()


def stl_corners(data: bytes) -> npt.NDArray[np.float32]:
    """Read the (n, 3, 3) corners of a binary STL.

    Raises
    ------
    MachineError
        Not a binary STL whose length fits its triangle count.
    """
    count = int.from_bytes(data[80:_STL_PREFIX_BYTES], "little")
    wanted = _STL_PREFIX_BYTES + count * _STL_TRIANGLE.itemsize
    if len(data) < _STL_PREFIX_BYTES or len(data) != wanted:
        raise MachineError(f"STL has {len(data)} bytes, must be {wanted} bytes for {count} triangles")
    return np.frombuffer(data, dtype=_STL_TRIANGLE, offset=_STL_PREFIX_BYTES)["corners"]


def _extremes(columns: npt.NDArray[np.floating]) -> tuple[FloatArray, FloatArray]:
    """Least and largest of each column of (n, 9): several times quicker one by one than along an axis."""
    lows = np.array([columns[:, k].min() for k in range(9)], dtype=np.float64)
    highs = np.array([columns[:, k].max() for k in range(9)], dtype=np.float64)
    return lows, highs


def _cross_rows(first: FloatingArray, second: FloatingArray) -> FloatingArray:
    """Cross product of (3, n) columns."""
    (x, y, z), (u, v, w) = first, second
    return np.stack((y * w - z * v, z * u - x * w, x * v - y * u))


def _dot(first: FloatingArray, second: FloatingArray) -> FloatingArray:
    """Dot product of (3, n) columns."""
    return np.asarray(first[0] * second[0] + first[1] * second[1] + first[2] * second[2])


def _rounded(point: FloatArray) -> Vector:
    x, y, z = (round(float(value), 6) + 0.0 for value in point)
    return (x, y, z)


def _words(point: Vector) -> str:
    return "(" + ", ".join(f"{value:.3f}" for value in point) + ")"
