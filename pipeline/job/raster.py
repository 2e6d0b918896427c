"""Draws triangle meshes as shaded pictures: orthographic, z-buffered, the same bytes on every run; no display, no GPU.

A z-buffer over all triangles is quicker here than casting a ray per pixel: a skull of a million triangles is drawn, four samples
to the pixel, in about a tenth of a second on one core.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from batchone.pipeline.values import FloatArray, IntArray, Mesh, Vector

Rgb = tuple[float, float, float]
Image = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float32]

WIDTH_PX, HEIGHT_PX = 900, 700
_SAMPLES = 2  # samples per pixel along each side
_FAR = np.float32(1.0e30)
_CREASE_COSINE = 0.82  # corners turned further than about 35 degrees from their face are shaded flat: keeps machined edges sharp
_EDGE_MM = 2.5  # a jump in depth between neighbours larger than this is drawn as an outline
_HOLLOW_PX = 10  # radius over which hollows are darkened
_HOLLOW_MM = 14.0  # depth below the neighbourhood that is darkened fully

_KEY_LIGHT = np.array([-0.45, 0.55, 0.70])  # right, up, towards the viewer: above the viewer's left shoulder
_FILL_LIGHT = np.array([0.75, -0.15, 0.45])
_AMBIENT, _HEAD, _KEY, _FILL = 0.16, 0.32, 0.56, 0.14  # weights of the lights
_INNER = 0.72  # brightness of the inner side of a cropped surface


@dataclass(frozen=True, slots=True)
class Camera:
    """An orthographic view: ``forward`` and ``up`` are unit vectors in LPS, ``mm_per_px`` the scale of the finished picture."""

    centre_mm: Vector
    forward: Vector
    up: Vector
    mm_per_px: float

    @property
    def axes(self) -> FloatArray:
        """(3, 3) rows: right, up, towards the viewer."""
        forward = np.array(self.forward)
        up = np.array(self.up) - forward * float(np.dot(forward, self.up))
        up = up / np.linalg.norm(up)
        return np.stack((np.cross(forward, up), up, -forward))


@dataclass(frozen=True, slots=True, eq=False)
class Body:
    """A mesh with a colour; ``nearer_mm`` lets it win over a surface at the same place.

    ``points_mm`` and ``normals`` are (n, 3) float32, one per vertex: a picture needs no more (1e-4 mm at 1 m).
    """

    points_mm: Points
    faces: IntArray
    colour: Rgb
    normals: Points
    two_sided: bool = False
    nearer_mm: float = 0.0


def make_body(mesh: Mesh, colour: Rgb, *, two_sided: bool = False, nearer_mm: float = 0.0) -> Body:
    """Prepare a mesh once for any number of pictures."""
    points = mesh.vertices_mm.astype(np.float32)
    return Body(points, mesh.faces, colour, _vertex_normals(points, mesh.faces), two_sided, nearer_mm)


class Canvas:
    """A picture in the making: bodies are added one by one; it can be developed at any time."""

    def __init__(self, camera: Camera) -> None:
        self.camera = camera
        self._depth = np.full((HEIGHT_PX * _SAMPLES, WIDTH_PX * _SAMPLES), _FAR, dtype=np.float32)
        self._shade = np.full((*self._depth.shape, 3), 255, dtype=np.uint8)

    def add(self, bodies: Sequence[Body]) -> None:
        """Draw bodies; where they are nearer, they hide what is there."""
        rows, columns = self._depth.shape
        axes = self.camera.axes
        scale = _SAMPLES / self.camera.mm_per_px
        to_screen = axes * np.array([[scale], [-scale], [-1.0]])
        lights = np.stack((_unit(_KEY_LIGHT) @ axes, _unit(_FILL_LIGHT) @ axes, axes[2])).astype(np.float32)
        for body in bodies:
            middle = np.array([columns / 2.0 - 0.5, rows / 2.0 - 0.5, -body.nearer_mm])
            offset = middle - to_screen @ np.array(self.camera.centre_mm)
            points = body.points_mm @ to_screen.T.astype(np.float32) + offset.astype(np.float32)
            colour = np.array(body.colour, dtype=np.float32) * 255.0
            _fill(points, body.points_mm, body.faces, body.normals, lights, colour, body.two_sided, self._depth, self._shade)

    def image(self, *, hollows: bool = True) -> Image:
        """What is drawn so far on white, hollows darkened; (HEIGHT_PX, WIDTH_PX, 3) uint8."""
        return _developed(self._depth, self._shade, hollows=hollows)


def draw(bodies: Sequence[Body], camera: Camera, *, hollows: bool = True) -> Image:
    """Draw the bodies on white; (HEIGHT_PX, WIDTH_PX, 3) uint8. ``hollows``: darken what lies deep between things."""
    canvas = Canvas(camera)
    canvas.add(bodies)
    return canvas.image(hollows=hollows)


@numba.njit(cache=True, nogil=True, inline="always")
def _tone(nx, ny, nz, lights, turned):  # type: ignore[no-untyped-def]
    """Brightness of a unit normal in LPS; ``turned``: the inner side of a cropped surface, dimmed."""
    sign = np.float32(-1.0) if turned else np.float32(1.0)
    key = max(np.float32(0.0), sign * (nx * lights[0, 0] + ny * lights[0, 1] + nz * lights[0, 2]))
    fill = max(np.float32(0.0), sign * (nx * lights[1, 0] + ny * lights[1, 1] + nz * lights[1, 2]))
    head = max(np.float32(0.0), sign * (nx * lights[2, 0] + ny * lights[2, 1] + nz * lights[2, 2]))
    tone = _AMBIENT + _HEAD * head + _KEY * key + _FILL * fill
    return np.float32(tone * _INNER if turned else tone)


@numba.njit(cache=True, nogil=True, inline="always")
def _corner_tones(a, b, c, vertices, normals, lights, turned):  # type: ignore[no-untyped-def]
    """Brightness at the corners of a triangle: by the normals of its vertices, across a crease by its own."""
    ux, uy, uz = vertices[b, 0] - vertices[a, 0], vertices[b, 1] - vertices[a, 1], vertices[b, 2] - vertices[a, 2]
    vx, vy, vz = vertices[c, 0] - vertices[a, 0], vertices[c, 1] - vertices[a, 1], vertices[c, 2] - vertices[a, 2]
    fx, fy, fz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    length = max(np.sqrt(fx * fx + fy * fy + fz * fz), 1e-30)
    nx, ny, nz = np.float32(fx / length), np.float32(fy / length), np.float32(fz / length)
    flat = _tone(nx, ny, nz, lights, turned)
    ta = tb = tc = flat
    if normals[a, 0] * nx + normals[a, 1] * ny + normals[a, 2] * nz >= _CREASE_COSINE:
        ta = _tone(normals[a, 0], normals[a, 1], normals[a, 2], lights, turned)
    if normals[b, 0] * nx + normals[b, 1] * ny + normals[b, 2] * nz >= _CREASE_COSINE:
        tb = _tone(normals[b, 0], normals[b, 1], normals[b, 2], lights, turned)
    if normals[c, 0] * nx + normals[c, 1] * ny + normals[c, 2] * nz >= _CREASE_COSINE:
        tc = _tone(normals[c, 0], normals[c, 1], normals[c, 2], lights, turned)
    return ta, tb, tc


@numba.njit(
    numba.void(
        numba.types.Array(numba.float32, 2, "C", readonly=True),
        numba.types.Array(numba.float32, 2, "C", readonly=True),
        numba.types.Array(numba.int32, 2, "C", readonly=True),
        numba.types.Array(numba.float32, 2, "C", readonly=True),
        numba.types.Array(numba.float32, 2, "C", readonly=True),
        numba.types.Array(numba.float32, 1, "C", readonly=True),
        numba.boolean,
        numba.float32[:, ::1],
        numba.uint8[:, :, ::1],
    ),
    cache=True,
    nogil=True,
    error_model="numpy",
)
def _fill(points, vertices, faces, normals, lights, colour, two_sided, depth, shade):  # type: ignore[no-untyped-def]
    """Write depth and shade of every sample at which a triangle is nearest so far."""
    rows, columns = depth.shape
    for index in range(faces.shape[0]):
        a, b, c = faces[index, 0], faces[index, 1], faces[index, 2]
        ax, ay, az = points[a, 0], points[a, 1], points[a, 2]
        bx, by, bz = points[b, 0], points[b, 1], points[b, 2]
        cx, cy, cz = points[c, 0], points[c, 1], points[c, 2]
        twice = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)  # negative: counter-clockwise on the screen, y down
        if twice == 0.0 or (twice > 0.0 and not two_sided):
            continue
        left, right = max(0, int(np.ceil(min(ax, bx, cx)))), min(columns - 1, int(np.floor(max(ax, bx, cx))))
        top, bottom = max(0, int(np.ceil(min(ay, by, cy)))), min(rows - 1, int(np.floor(max(ay, by, cy))))
        if left > right or top > bottom:
            continue
        share = np.float32(1.0) / twice
        toned = False
        ta = tb = tc = np.float32(0.0)
        for row in range(top, bottom + 1):
            y = np.float32(row)
            for column in range(left, right + 1):
                x = np.float32(column)
                wa = ((bx - x) * (cy - y) - (by - y) * (cx - x)) * share
                wb = ((cx - x) * (ay - y) - (cy - y) * (ax - x)) * share
                wc = np.float32(1.0) - wa - wb
                here = wa * az + wb * bz + wc * cz
                if wa < 0.0 or wb < 0.0 or wc < 0.0 or here >= depth[row, column]:
                    continue
                if not toned:
                    ta, tb, tc = _corner_tones(a, b, c, vertices, normals, lights, twice > 0.0)
                    toned = True
                depth[row, column] = here
                tone = wa * ta + wb * tb + wc * tc
                for channel in range(3):
                    shade[row, column, channel] = np.uint8(min(np.float32(255.0), colour[channel] * tone))


def _developed(depth: npt.NDArray[np.float32], shade: Image, *, hollows: bool) -> Image:
    """Darken hollows and outlines, then average the samples of each pixel."""
    nearest = np.empty((HEIGHT_PX, WIDTH_PX), dtype=np.float32)
    farthest = _nearest(depth, nearest)
    hollow = np.zeros_like(nearest)
    if hollows:
        flat = np.minimum(nearest, farthest)
        below = flat - _box_blur(_box_blur(flat, _HOLLOW_PX), _HOLLOW_PX)
        hollow = np.where(nearest < _FAR, np.clip(below / _HOLLOW_MM, 0.0, 1.0), 0.0).astype(np.float32)
    image = np.empty((HEIGHT_PX, WIDTH_PX, 3), dtype=np.uint8)
    _average(depth, shade, hollow, image)
    return image


@numba.njit(numba.float32(numba.float32[:, ::1], numba.float32[:, ::1]), cache=True, nogil=True)
def _nearest(depth, nearest):  # type: ignore[no-untyped-def]
    """Write the least depth of the samples of each pixel; return the largest of those on a body."""
    farthest = -_FAR
    for row in range(nearest.shape[0]):
        for column in range(nearest.shape[1]):
            here = _FAR
            for i in range(_SAMPLES):
                for j in range(_SAMPLES):
                    here = min(here, depth[row * _SAMPLES + i, column * _SAMPLES + j])
            nearest[row, column] = here
            if here < _FAR:
                farthest = max(farthest, here)
    return farthest


@numba.njit(
    numba.void(numba.float32[:, ::1], numba.uint8[:, :, ::1], numba.float32[:, ::1], numba.uint8[:, :, ::1]),
    cache=True,
    nogil=True,
)
def _average(depth, shade, hollow, image):  # type: ignore[no-untyped-def]
    rows, columns = depth.shape
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            red = green = blue = np.float32(0.0)
            for i in range(_SAMPLES):
                for j in range(_SAMPLES):
                    y, x = row * _SAMPLES + i, column * _SAMPLES + j
                    weight = np.float32(1.0) - np.float32(0.55) * hollow[row, column]
                    here = depth[y, x]
                    right, below = depth[y, min(x + 1, columns - 1)], depth[min(y + 1, rows - 1), x]
                    if abs(right - here) > _EDGE_MM or abs(below - here) > _EDGE_MM:
                        weight *= np.float32(0.45)
                    red += shade[y, x, 0] * weight
                    green += shade[y, x, 1] * weight
                    blue += shade[y, x, 2] * weight
            count = np.float32(_SAMPLES * _SAMPLES)
            image[row, column, 0] = np.uint8(red / count + np.float32(0.5))
            image[row, column, 1] = np.uint8(green / count + np.float32(0.5))
            image[row, column, 2] = np.uint8(blue / count + np.float32(0.5))


@numba.njit(
    numba.float32[:, ::1](
        numba.types.Array(numba.float32, 2, "C", readonly=True), numba.types.Array(numba.int32, 2, "C", readonly=True)
    ),
    cache=True,
    nogil=True,
)
def _vertex_normals(vertices, faces):  # type: ignore[no-untyped-def]
    """Area-weighted unit normals of the vertices, (n, 3)."""
    sums = np.zeros((vertices.shape[0], 3))
    for index in range(faces.shape[0]):
        a, b, c = faces[index, 0], faces[index, 1], faces[index, 2]
        ux, uy, uz = vertices[b, 0] - vertices[a, 0], vertices[b, 1] - vertices[a, 1], vertices[b, 2] - vertices[a, 2]
        vx, vy, vz = vertices[c, 0] - vertices[a, 0], vertices[c, 1] - vertices[a, 1], vertices[c, 2] - vertices[a, 2]
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for corner in (a, b, c):
            sums[corner, 0] += nx
            sums[corner, 1] += ny
            sums[corner, 2] += nz
    normals = np.zeros((vertices.shape[0], 3), dtype=np.float32)
    for index in range(vertices.shape[0]):
        size = np.sqrt(sums[index, 0] ** 2 + sums[index, 1] ** 2 + sums[index, 2] ** 2)
        if size > 0.0:
            for axis in range(3):
                normals[index, axis] = sums[index, axis] / size
    return normals


def _box_blur(image: npt.NDArray[np.float32], radius_px: int) -> npt.NDArray[np.float32]:
    """Mean over a square of 2 * radius + 1 pixels, edges repeated."""
    size = 2 * radius_px + 1
    for axis in (0, 1):
        pad = [(radius_px + 1, radius_px) if a == axis else (0, 0) for a in (0, 1)]
        sums = np.cumsum(np.pad(image, pad, mode="edge"), axis=axis, dtype=np.float64)
        upper, lower = (sums[size:], sums[:-size]) if axis == 0 else (sums[:, size:], sums[:, :-size])
        image = ((upper - lower) / size).astype(np.float32)
    return image


def _unit(vector: FloatArray) -> FloatArray:
    return vector / np.linalg.norm(vector)
