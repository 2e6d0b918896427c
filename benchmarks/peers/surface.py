"""HU volume -> isosurface: scikit-image marching cubes and VTK marching cubes / flying edges.

Usage: python surface.py VARIANT VOLUME.npy ISO_HU   with VARIANT skimage | vtk-marching-cubes | vtk-flying-edges
Prints one JSON line: name, variant, seconds, triangles, versions.
"""

import json
import sys
import time

import numpy as np


def skimage_surface(hu, iso_hu):
    from skimage import measure

    return len(measure.marching_cubes(hu, iso_hu)[1])


def vtk_surface(hu, iso_hu, kind):
    from vtkmodules.util.numpy_support import numpy_to_vtk
    from vtkmodules.vtkCommonDataModel import vtkImageData
    from vtkmodules.vtkFiltersCore import vtkFlyingEdges3D, vtkMarchingCubes

    image = vtkImageData()
    image.SetDimensions(*hu.shape[::-1])
    image.GetPointData().SetScalars(numpy_to_vtk(hu.reshape(-1)))
    contour = {"vtk-marching-cubes": vtkMarchingCubes, "vtk-flying-edges": vtkFlyingEdges3D}[kind]()
    contour.SetInputData(image)
    contour.SetValue(0, iso_hu)
    contour.ComputeNormalsOff()
    contour.Update()
    return contour.GetOutput().GetNumberOfPolys()


if __name__ == "__main__":
    import skimage
    import vtkmodules.all  # noqa: F401
    from vtkmodules.vtkCommonCore import vtkVersion

    variant, path, iso_hu = sys.argv[1], sys.argv[2], float(sys.argv[3])
    hu = np.load(path)
    started = time.perf_counter()
    triangles = skimage_surface(hu, iso_hu) if variant == "skimage" else vtk_surface(hu, iso_hu, variant)
    seconds = time.perf_counter() - started
    versions = {"scikit-image": skimage.__version__, "vtk": vtkVersion.GetVTKVersion()}
    print(json.dumps({"name": "surface", "variant": variant, "seconds": seconds, "triangles": triangles, "versions": versions}))
