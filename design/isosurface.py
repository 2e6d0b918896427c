"""The surface at which a field on a grid changes sign."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from batchone.design.cranial.columns import submesh
from batchone.pipeline.values import FloatArray, IntArray, Mesh


def zero_mesh(field: npt.NDArray[np.float32], origin_mm: FloatArray, step_mm: float) -> Mesh:
    """Everything that lies where a field is 0, by flying edges, oriented from negative to positive; no triangle where there is
    none.

    Parameters
    ----------
    field
        (x, y, z) float32, negative inside; positive on the grid's walls, or the surface is open there.
    origin_mm, step_mm
        Middle of the first voxel (3,), distance of neighbours.
    """
    from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
    from vtkmodules.vtkCommonDataModel import vtkImageData
    from vtkmodules.vtkFiltersCore import vtkFlyingEdges3D

    image = vtkImageData()
    image.SetDimensions(*field.shape[::-1])
    image.GetPointData().SetScalars(numpy_to_vtk(field.reshape(-1)))
    contour = vtkFlyingEdges3D()
    contour.SetInputData(image)
    contour.SetValue(0, 0.0)
    contour.ComputeNormalsOff()
    contour.ComputeGradientsOff()
    contour.ComputeScalarsOff()
    contour.Update()
    output = contour.GetOutput()
    if output.GetNumberOfPolys() == 0:
        return Mesh(np.empty((0, 3)), np.empty((0, 3), dtype=np.int32))
    points = vtk_to_numpy(output.GetPoints().GetData()).astype(np.float64)[:, ::-1] * step_mm + origin_mm
    faces = vtk_to_numpy(output.GetPolys().GetConnectivityArray()).reshape(-1, 3).astype(np.int32)
    if volumes_mm3(points, faces).sum() < 0.0:
        faces = faces[:, ::-1]
    return Mesh(np.ascontiguousarray(points), np.ascontiguousarray(faces))


def largest_piece(mesh: Mesh) -> tuple[Mesh, float]:
    """The connected piece of the largest volume, and the volume of all others (mm3)."""
    from scipy import sparse
    from scipy.sparse import csgraph

    faces = mesh.faces
    pairs = sparse.coo_matrix(
        (np.ones(2 * len(faces), dtype=np.int8), (faces[:, :2].T.reshape(-1), faces[:, 1:].T.reshape(-1))),
        shape=(len(mesh.vertices_mm),) * 2,
    )
    _, piece = csgraph.connected_components(pairs, directed=False)
    of_face = piece[faces[:, 0]]
    volumes = np.bincount(of_face, weights=volumes_mm3(mesh.vertices_mm, faces))
    largest = int(np.argmax(volumes))
    return submesh(mesh, of_face == largest), float(np.abs(volumes).sum() - abs(volumes[largest]))


def volumes_mm3(points_mm: FloatArray, faces: IntArray) -> FloatArray:
    """(m,) signed volume between each triangle and the origin; they add up to the volume that a surface encloses."""
    a, b, c = (points_mm[faces[:, k]] for k in range(3))
    return np.asarray(np.einsum("ij,ij->i", a, np.cross(b, c)) / 6.0)
