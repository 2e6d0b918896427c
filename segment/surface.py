"""The surface of a bone from the grey values, at sub-voxel position.

The edge of an object that was blurred by the scanner lies where the value is half-way between the two sides. Both sides differ
from place to place (cortex of 400 or 1400 HU, muscle, fat or air outside), so the half level is taken locally, for every voxel
near the edge (see ``levels``), and averaged over its neighbours. The surface is where *value minus half level* changes sign.
Where cortex is thinner than the blur, its peak is lowered and the surface lies up to about 0.15 mm outside; that is part of the
uncertainty.
"""

from __future__ import annotations

import numba as nb
import numpy as np
import numpy.typing as npt

from batchone.pipeline.errors import SegmentationError
from batchone.pipeline.side_by_side import beside
from batchone.pipeline.values import FloatArray, HuArray, IntArray, Mesh, moved_points
from batchone.segment.bits import Words, ball, dilated, eroded
from batchone.segment.bone import Grid, without_islands
from batchone.segment.levels import NO_LEVEL, half_levels

SHELL_MM = 1.0  # the edge at half level lies this close to the edge at the threshold
STEPS = 4  # the field counts quarters of a HU: 0.25 HU of a step of 500 HU is under 1 um. At least one step off zero, so that
#            no vertex falls on a grid point, where triangles would degenerate
FAR_HU = 100  # value given to voxels surely inside or outside

_HU = nb.types.Array(nb.int16, 3, "C", readonly=True)
_WORDS = nb.types.Array(nb.uint64, 3, "C", readonly=True)
_FACES = nb.types.Array(nb.int32, 2, "C", readonly=True)
Sums = npt.NDArray[np.int32]


@nb.njit(nb.void(_HU, nb.int64, nb.int64, nb.int64, nb.int64, nb.int32[::1], nb.int32[::1]), cache=True, nogil=True)
def _level_sums(level: HuArray, z: int, y: int, first: int, last: int, total: Sums, count: Sums) -> None:
    """Sum and number of those of the 9 neighbours in slices and rows that have a level, for the columns of a half-open range."""
    total[: last - first], count[: last - first] = 0, 0
    for k in range(max(z - 1, 0), min(z + 2, level.shape[0])):
        for j in range(max(y - 1, 0), min(y + 2, level.shape[1])):
            line = level[k, j, first:last]
            for i in range(last - first):
                known = nb.int32(line[i] != NO_LEVEL)
                total[i] += known * line[i]
                count[i] += known


@nb.njit(nb.int64(nb.int32[::1], nb.int64, nb.int64), inline="always")
def _three(sums: Sums, i: int, size: int) -> int:
    """The sum over a column and those beside it, of the first ``size``."""
    return sums[i] + (sums[i - 1] if i > 0 else 0) + (sums[i + 1] if i + 1 < size else 0)


@nb.njit(nb.void(_HU, _HU, _WORDS, _WORDS, _WORDS, nb.int16[:, :, ::1]), parallel=True, cache=True, nogil=True)
def _relative(hu: HuArray, level: HuArray, near: Words, inner: Words, outer: Words, field: HuArray) -> None:
    """Value minus mean half level of the 27 neighbours that have one, in ``1 / STEPS`` HU; positive in ``inner``, negative out
    of ``outer``."""
    far, least, most = FAR_HU * STEPS, STEPS, 32000.0
    columns = hu.shape[2]
    for z in nb.prange(hu.shape[0]):
        total, count = np.empty(66, dtype=np.int32), np.empty(66, dtype=np.int32)
        for y in range(hu.shape[1]):
            for w in range(near.shape[2]):
                here, solid, hull = near[z, y, w], inner[z, y, w], outer[z, y, w]
                start, stop = 64 * w, min(64 * w + 64, columns)
                if here == 0 and (solid == 0 or solid == ~nb.uint64(0)):
                    field[z, y, start:stop] = -far if solid == 0 else far
                    continue
                first, last = max(start - 1, 0), min(stop + 1, columns)
                if here != 0:
                    _level_sums(level, z, y, first, last, total, count)
                for x in range(start, stop):
                    b = nb.uint64(x & 63)
                    inside = (solid >> b) & nb.uint64(1) != 0
                    number = _three(count, x - first, last - first) if (here >> b) & nb.uint64(1) != 0 else 0
                    if number == 0:
                        field[z, y, x] = far if inside else -far
                        continue
                    value = STEPS * (hu[z, y, x] - 0.5 * _three(total, x - first, last - first) / number)
                    if inside:
                        value = max(value, float(far))
                    elif (hull >> b) & nb.uint64(1) == 0:
                        value = min(value, -float(far))
                    elif abs(value) < least:
                        value = float(least) if value >= 0.0 else -float(least)
                    field[z, y, x] = nb.int16(np.round(min(max(value, -most), most)))


def edge_field(solid: Words, grid: Grid, *, in_tissue: bool, reach_mm: float | None = None, every_row: bool = False) -> HuArray:
    """Grey values relative to the local half level, positive inside, (slices, rows, columns) int16 in ``1 / STEPS`` HU.

    Parameters
    ----------
    solid
        The filled mask of the bone on ``grid``, packed. Deep inside it the field is positive, away from it negative.
    in_tissue
        The bone lies in soft tissue (a patient), not in air (a dry skull, a phantom).
    reach_mm
        How far from the mask's edge the values may say otherwise; without it ``SHELL_MM``, or a voxel where that is more.
        With 0 the mask says which voxels are inside, and the values only where between two of them the surface lies.
    every_row
        See :func:`batchone.segment.levels.half_levels`.
    """
    columns = grid.columns
    reach = ball(max(SHELL_MM, *grid.spacing_mm) if reach_mm is None else reach_mm, grid.spacing_mm)
    outer = dilated(solid, columns, reach)
    inner = eroded(solid, columns, reach)
    cube = np.ones((3, 3), dtype=np.int64)
    shell = outer & ~inner if reach_mm != 0.0 else dilated(solid, columns, cube) & ~eroded(solid, columns, cube)
    near = dilated(shell, columns, cube)
    level = half_levels(solid, shell, grid, in_tissue=in_tissue, every_row=every_row)
    field = np.empty_like(level)
    _relative(grid.hu, level, near, inner, outer, field)
    return without_islands(field, grid, FAR_HU * STEPS)


def surface(field: HuArray, affine: FloatArray) -> Mesh:
    """Closed surface where ``field`` changes sign, oriented outward, in the frame of ``affine``.

    Raises
    ------
    SegmentationError
        There is no surface, or it is not closed.
    """
    vertices, faces = _flying_edges(field)
    if len(faces) == 0:
        raise SegmentationError("bone surface has 0 triangles, at least 4", hint="is the bone inside the scan?")
    mesh = Mesh(moved_points(affine, vertices), faces)
    open_edges, volume_mm3 = beside(lambda: count_open_edges(faces), lambda: signed_volume_mm3(mesh))
    if open_edges:
        raise SegmentationError(f"bone surface has {open_edges} open edges, at most 0", hint="please report this scan's geometry")
    return mesh if volume_mm3 > 0.0 else Mesh(mesh.vertices_mm, np.ascontiguousarray(faces[:, ::-1]))


def _flying_edges(field: HuArray) -> tuple[FloatArray, IntArray]:
    """Vertices in (column, row, slice) index coordinates, and triangles."""
    from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
    from vtkmodules.vtkCommonCore import vtkSMPTools
    from vtkmodules.vtkCommonDataModel import vtkImageData
    from vtkmodules.vtkFiltersCore import vtkFlyingEdges3D

    vtkSMPTools.SetBackend("STDThread")  # all cores, the same triangles in the same order
    image = vtkImageData()
    image.SetDimensions(*field.shape[::-1])
    image.GetPointData().SetScalars(numpy_to_vtk(field.reshape(-1)))
    edges = vtkFlyingEdges3D()
    edges.SetInputData(image)
    edges.SetValue(0, 0.0)
    edges.ComputeNormalsOff()
    edges.ComputeGradientsOff()
    edges.ComputeScalarsOff()
    edges.Update()
    output = edges.GetOutput()
    if output.GetNumberOfPolys() == 0:
        return np.empty((0, 3)), np.empty((0, 3), dtype=np.int32)
    points = vtk_to_numpy(output.GetPoints().GetData()).astype(np.float64)
    faces = vtk_to_numpy(output.GetPolys().GetConnectivityArray()).reshape(-1, 3).astype(np.int32)
    return points, faces


@nb.njit(nb.float64(nb.types.Array(nb.float64, 2, "C", readonly=True), _FACES, nb.float64[::1]), cache=True, nogil=True)
def _six_volumes(vertices: FloatArray, faces: IntArray, origin: FloatArray) -> float:
    total = 0.0
    for f in range(faces.shape[0]):
        a, b, c = vertices[faces[f, 0]], vertices[faces[f, 1]], vertices[faces[f, 2]]
        ax, ay, az = a[0] - origin[0], a[1] - origin[1], a[2] - origin[2]
        bx, by, bz = b[0] - origin[0], b[1] - origin[1], b[2] - origin[2]
        cx, cy, cz = c[0] - origin[0], c[1] - origin[1], c[2] - origin[2]
        total += ax * (by * cz - bz * cy) + ay * (bz * cx - bx * cz) + az * (bx * cy - by * cx)
    return total


def signed_volume_mm3(mesh: Mesh) -> float:
    """Enclosed volume, mm3: positive when triangles are counter-clockwise seen from outside."""
    vertices = np.ascontiguousarray(mesh.vertices_mm)
    return float(_six_volumes(vertices, np.ascontiguousarray(mesh.faces), vertices.mean(axis=0))) / 6.0


@nb.njit(nb.int64(_FACES, nb.int64), parallel=True, cache=True, nogil=True)
def _unpaired(faces: IntArray, vertices: int) -> int:
    """Directed edges that are doubled or lack their opposite; edges are sorted into buckets by their first vertex."""
    starts = np.zeros(vertices + 1, dtype=np.int64)
    for f in range(faces.shape[0]):
        for i in range(3):
            starts[faces[f, i] + 1] += 1
    for v in range(vertices):
        starts[v + 1] += starts[v]
    place = starts[:-1].copy()
    ends = np.empty(3 * faces.shape[0], dtype=np.int32)
    for f in range(faces.shape[0]):
        for i in range(3):
            a = faces[f, i]
            ends[place[a]] = faces[f, (i + 1) % 3]
            place[a] += 1
    bad = 0
    for a in nb.prange(vertices):
        for e in range(starts[a], starts[a + 1]):
            same, opposite = 0, 0
            for other in range(starts[a], starts[a + 1]):
                same += ends[other] == ends[e]
            for other in range(starts[ends[e]], starts[ends[e] + 1]):
                opposite += ends[other] == a
            bad += int(same != 1 or opposite != 1)
    return bad


def count_open_edges(faces: IntArray) -> int:
    """Directed edges without exactly one partner in the other direction: 0 for a closed two-manifold, (m, 3) int32 faces."""
    return int(_unpaired(np.ascontiguousarray(faces), int(faces.max()) + 1))
