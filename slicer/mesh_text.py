"""The compiled part of the 3MF writer: a mesh as the text of its vertices and triangles."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

from batchone.pipeline.values import FloatArray, IntArray, Mesh

Bytes = npt.NDArray[np.uint8]

# coordinates are written to 1e-6 mm: finer than float32, which readers of 3MF hold, above 8 mm
_PER_MM = 1e6
_DECIMALS = 6
_REACH_MM: Final = 1e6  # numerical: farther away a coordinate is a mistake, and its text would not fit its room
_NUMBER_BYTES = 14  # sign, seven digits, point, six decimals, rounded up


def mesh_text(mesh: Mesh) -> bytes:
    """The ``<mesh>`` element of a 3MF file, millimetres.

    Raises
    ------
    ValueError
        A coordinate is not finite, or beyond 1 km.
    """
    if not np.abs(mesh.vertices_mm).max(initial=0.0) < _REACH_MM:
        raise ValueError("coordinates must be finite and below 1 km")
    vertices = _vertex_text(np.ascontiguousarray(mesh.vertices_mm), *_marks(b'<vertex x="', b'" y="', b'" z="', b'"/>\n'))
    triangles = _triangle_text(np.ascontiguousarray(mesh.faces), *_marks(b'<triangle v1="', b'" v2="', b'" v3="', b'"/>\n'))
    parts = (b"<mesh>\n<vertices>\n", vertices.tobytes(), b"</vertices>\n<triangles>\n", triangles.tobytes())
    return b"".join((*parts, b"</triangles>\n</mesh>\n"))


def _marks(*texts: bytes) -> tuple[Bytes, Bytes, Bytes, Bytes]:
    a, b, c, d = (np.frombuffer(text, dtype=np.uint8).copy() for text in texts)
    return a, b, c, d


@njit("i8(u1[::1], i8, u1[::1])", cache=True)
def _put(out: Bytes, at: int, text: Bytes) -> int:
    for i in range(text.shape[0]):
        out[at + i] = text[i]
    return at + text.shape[0]


@njit("i8(u1[::1], i8, i8, i8)", cache=True)
def _put_number(out: Bytes, at: int, value: int, decimals: int) -> int:
    """Write ``value / 10**decimals`` in decimal."""
    if value < 0:
        out[at] = 45
        at += 1
        value = -value
    digits = 1
    rest = value // 10
    while rest > 0 or digits <= decimals:
        digits += 1
        rest //= 10
    end = at + digits + (1 if decimals > 0 else 0)
    for i in range(digits):
        if decimals > 0 and i == decimals:
            end -= 1
            out[end] = 46
        end -= 1
        out[end] = 48 + value % 10
        value //= 10
    return at + digits + (1 if decimals > 0 else 0)


@njit("u1[::1](f8[:, ::1], u1[::1], u1[::1], u1[::1], u1[::1])", cache=True, nogil=True)
def _vertex_text(vertices_mm: FloatArray, a: Bytes, b: Bytes, c: Bytes, d: Bytes) -> Bytes:
    marks = a.shape[0] + b.shape[0] + c.shape[0] + d.shape[0]
    out = np.empty(vertices_mm.shape[0] * (marks + 3 * (_NUMBER_BYTES + 1)), np.uint8)
    at = 0
    for v in range(vertices_mm.shape[0]):
        at = _put_number(out, _put(out, at, a), int(np.rint(vertices_mm[v, 0] * _PER_MM)), _DECIMALS)
        at = _put_number(out, _put(out, at, b), int(np.rint(vertices_mm[v, 1] * _PER_MM)), _DECIMALS)
        at = _put_number(out, _put(out, at, c), int(np.rint(vertices_mm[v, 2] * _PER_MM)), _DECIMALS)
        at = _put(out, at, d)
    return out[:at]


@njit("u1[::1](i4[:, ::1], u1[::1], u1[::1], u1[::1], u1[::1])", cache=True, nogil=True)
def _triangle_text(faces: IntArray, a: Bytes, b: Bytes, c: Bytes, d: Bytes) -> Bytes:
    marks = a.shape[0] + b.shape[0] + c.shape[0] + d.shape[0]
    out = np.empty(faces.shape[0] * (marks + 3 * (_NUMBER_BYTES + 1)), np.uint8)
    at = 0
    for t in range(faces.shape[0]):
        at = _put_number(out, _put(out, at, a), faces[t, 0], 0)
        at = _put_number(out, _put(out, at, b), faces[t, 1], 0)
        at = _put_number(out, _put(out, at, c), faces[t, 2], 0)
        at = _put(out, at, d)
    return out[:at]
