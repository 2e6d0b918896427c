"""Closed triangle mesh -> fewer triangles: VTK's quadric decimation (its documented way) to a stated count.

Usage: python reduce.py VARIANT MESH.npz TRIANGLES   with VARIANT vtk-quadric | fast-simplification (where installed)
Prints one JSON line: name, variant, seconds, triangles, open_edges, versions.
"""

import json
import sys
import time

import numpy as np


def vtk_quadric(vertices, faces, target):
    from vtkmodules.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray, vtk_to_numpy
    from vtkmodules.vtkCommonCore import vtkPoints
    from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkPolyData
    from vtkmodules.vtkFiltersCore import vtkQuadricDecimation

    points = vtkPoints()
    points.SetData(numpy_to_vtk(vertices, deep=True))
    cells = vtkCellArray()
    cells.SetData(3, numpy_to_vtkIdTypeArray(faces.astype(np.int64).ravel(), deep=True))
    mesh = vtkPolyData()
    mesh.SetPoints(points)
    mesh.SetPolys(cells)
    reduce = vtkQuadricDecimation()
    reduce.SetInputData(mesh)
    reduce.SetTargetReduction(1.0 - target / len(faces))
    reduce.Update()
    return vtk_to_numpy(reduce.GetOutput().GetPolys().GetConnectivityArray()).reshape(-1, 3)


def fast_simplification(vertices, faces, target):
    import fast_simplification as library

    return library.simplify(vertices.astype(np.float32), faces, target_count=target)[1]


def open_edges(faces):
    directed = faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2).astype(np.int64)
    key = np.sort(directed, axis=1) @ np.array([faces.max() + 1, 1])
    return int(np.count_nonzero(np.unique(key, return_counts=True)[1] != 2))


if __name__ == "__main__":
    import vtkmodules.all  # noqa: F401
    from vtkmodules.vtkCommonCore import vtkVersion

    variant, path, target = sys.argv[1], sys.argv[2], int(sys.argv[3])
    packed = np.load(path)
    run = {"vtk-quadric": vtk_quadric, "fast-simplification": fast_simplification}[variant]
    started = time.perf_counter()
    faces = run(packed["vertices"], packed["faces"], target)
    seconds = time.perf_counter() - started
    result = {"name": "reduce", "variant": variant, "seconds": seconds, "triangles": len(faces), "open_edges": open_edges(faces)}
    print(json.dumps({**result, "versions": {"vtk": vtkVersion.GetVTKVersion()}}))
