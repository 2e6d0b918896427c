"""Triangles of a CadQuery solid: OCCT gives each face vertices of its own, here they are shared."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from batchone.pipeline.errors import DesignError
from batchone.pipeline.values import FloatArray, Mesh

if TYPE_CHECKING:
    import cadquery as cq
    from OCP.TopoDS import TopoDS_Face, TopoDS_Shape

TESSELLATION_MM = 0.01  # asked distance between triangles and B-rep: a tenth of the finest process tolerance (0.1 mm, LPBF)
_ANGULAR_RAD = 0.25  # at most this turn between neighbouring triangles: 26 sides on the smallest hole
_WELD_MM = 1e-5  # numerical: neighbouring faces repeat their common vertices within 1e-7 mm


def triangles_of(name: str, shape: cq.Shape) -> Mesh:
    """Closed, welded triangles about ``TESSELLATION_MM`` from a solid; curved strokes of large letters measured up to 0.025 mm.

    Raises
    ------
    DesignError
        They are not closed, or do not hold the solid's volume; ``name`` names the feature.
    """
    tessellate(shape.wrapped)
    mesh = _welded(*triangles_of_faces(face.wrapped for face in shape.Faces()))
    edges = np.sort(mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    uses = np.unique(edges, axis=0, return_counts=True)[1]
    odd = int(np.count_nonzero(uses != 2))
    if odd:
        raise DesignError(f"feature {name}: {odd} edges are not shared by 2 triangles, must be 0", hint="report these parameters")
    corners = mesh.vertices_mm[mesh.faces]
    volume_mm3 = float(np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6.0)
    limit_mm3 = TESSELLATION_MM * float(shape.Area())
    if not abs(volume_mm3 - float(shape.Volume())) <= limit_mm3:
        raise DesignError(
            f"feature {name}: triangles hold {volume_mm3:.3f} mm3, the solid {shape.Volume():.3f} mm3, "
            f"at most {limit_mm3:.3f} mm3 apart",
            hint="report these parameters",
        )
    return mesh


def tessellate(shape: TopoDS_Shape) -> None:
    """Give each face of a shape its triangles, CadQuery's own way; how fine they are depends on the size of the whole shape."""
    from OCP.BRepMesh import BRepMesh_IncrementalMesh
    from OCP.BRepTools import BRepTools

    if not BRepTools.Triangulation_s(shape, TESSELLATION_MM):
        BRepMesh_IncrementalMesh(shape, TESSELLATION_MM, True, _ANGULAR_RAD)


def triangles_of_faces(faces: Iterable[TopoDS_Face]) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Vertices (n, 3) and triangles (m, 3) of tessellated faces, each face with vertices of its own."""
    from OCP.BRep import BRep_Tool
    from OCP.TopAbs import TopAbs_Orientation
    from OCP.TopLoc import TopLoc_Location

    points, triangles, first = [np.empty((0, 3))], [np.empty((0, 3), dtype=np.int64)], 0
    for face in faces:
        place = TopLoc_Location()
        found = BRep_Tool.Triangulation_s(face, place)
        if found is None:
            continue
        x, y, z = np.array([found.Node(i).Coord() for i in range(1, found.NbNodes() + 1)]).T
        to = place.Transformation()
        rows = [[to.Value(row, column) for column in range(1, 5)] for row in range(1, 4)]
        points.append(np.column_stack([a * x + b * y + c * z + d for a, b, c, d in rows]))
        corners = np.array([found.Triangle(i).Get() for i in range(1, found.NbTriangles() + 1)], dtype=np.int64)
        back = face.Orientation() == TopAbs_Orientation.TopAbs_REVERSED
        triangles.append(corners[:, [0, 2, 1] if back else [0, 1, 2]] + (first - 1))
        first += found.NbNodes()
    return np.concatenate(points), np.concatenate(triangles)


def _welded(points_mm: FloatArray, triangles: npt.NDArray[np.int64]) -> Mesh:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    pairs = cKDTree(points_mm).query_pairs(_WELD_MM, output_type="ndarray")
    links = coo_array((np.ones(len(pairs), dtype=np.int8), (pairs[:, 0], pairs[:, 1])), shape=(len(points_mm),) * 2)
    group = connected_components(links, directed=False)[1]
    _, first, index = np.unique(group, return_index=True, return_inverse=True)
    faces = index[triangles]
    whole = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    return Mesh(np.ascontiguousarray(points_mm[first]), np.ascontiguousarray(faces[whole], dtype=np.int32))
