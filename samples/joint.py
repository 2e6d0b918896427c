"""A CT of several bones at a joint, each known voxel by voxel: closed surfaces are voxelised, so the truth of a cut is exact."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_dilation, distance_transform_edt, gaussian_filter

from batchone.pipeline.values import FloatArray, HuArray, Mesh
from batchone.samples.scanner import AIR_HU, BLUR_FWHM_MM, NOISE_HU

CORTICAL_HU, MARROW_HU, MUSCLE_HU = 1100.0, 250.0, 50.0  # HU, usual CT values
CORTEX_MM = 1.5  # mm, thickness of the cortex at a joint
MUSCLE_MM, AIR_MM = 14.0, 8.0  # mm of soft tissue round the bones, and of air round that
_SIGMAS_PER_FWHM = 2.3548


@dataclass(frozen=True, slots=True, eq=False)
class JointPhantom:
    """``hu`` (slices, rows, columns) int16, ``affine`` (column, row, slice) -> LPS mm, ``truth`` uint8 on the same grid: the
    number of the bone in the order given, from 1."""

    hu: HuArray
    affine: FloatArray
    truth: npt.NDArray[np.uint8]


def joint(bones: tuple[Mesh, ...], *, spacing_mm: float = 0.8, noise_hu: float = NOISE_HU, seed: int = 1) -> JointPhantom:
    """Scan bones that lie close to each other.

    Parameters
    ----------
    bones
        Closed surfaces, LPS mm; where two overlap the later one wins.
    spacing_mm
        Of the voxels, along every axis.
    noise_hu
        One standard deviation.
    seed
        The same seed gives the same bits.
    """
    every = np.concatenate([mesh.vertices_mm for mesh in bones])
    margin = MUSCLE_MM + AIR_MM
    low = every.min(axis=0) - margin
    shape = np.ceil((every.max(axis=0) + margin - low) / spacing_mm).astype(np.int64)[::-1] + 1
    truth = np.zeros(tuple(int(n) for n in shape), dtype=np.uint8)
    clean = np.full(truth.shape, AIR_HU, dtype=np.float32)
    for number, mesh in enumerate(bones, start=1):
        truth[_inside(mesh, low, spacing_mm, truth.shape)] = number
    clean[binary_dilation(truth > 0, _ball(MUSCLE_MM / spacing_mm / 4.0), iterations=4)] = MUSCLE_HU
    for number in range(1, len(bones) + 1):
        own = truth == number
        depth = distance_transform_edt(own) * spacing_mm
        clean[own] = CORTICAL_HU
        clean[depth > CORTEX_MM] = MARROW_HU
    blurred = gaussian_filter(clean, BLUR_FWHM_MM / _SIGMAS_PER_FWHM / spacing_mm)
    rng = np.random.default_rng(seed)
    blurred += rng.normal(0.0, noise_hu, truth.shape).astype(np.float32)
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    affine[:3, 3] = low
    return JointPhantom(np.clip(np.rint(blurred), -1024, 3071).astype(np.int16), affine, truth)


def _ball(radius: float) -> npt.NDArray[np.bool_]:
    reach = max(1, int(np.ceil(radius)))
    index = np.indices((2 * reach + 1,) * 3) - reach
    return np.asarray((index**2).sum(axis=0) <= max(radius, 1.0) ** 2)


def _inside(mesh: Mesh, low: FloatArray, spacing_mm: float, shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """Voxels whose centres lie inside a closed surface."""
    from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
    from vtkmodules.util.vtkConstants import VTK_ID_TYPE
    from vtkmodules.vtkCommonCore import vtkPoints
    from vtkmodules.vtkCommonDataModel import vtkCellArray, vtkPolyData
    from vtkmodules.vtkImagingStencil import vtkImageStencilToImage, vtkPolyDataToImageStencil

    surface = vtkPolyData()
    points = vtkPoints()
    points.SetData(numpy_to_vtk(np.ascontiguousarray(mesh.vertices_mm), deep=True))
    cells = vtkCellArray()
    faces = np.hstack([np.full((len(mesh.faces), 1), 3), mesh.faces]).astype(np.int64).ravel()
    cells.ImportLegacyFormat(numpy_to_vtk(faces, deep=True, array_type=VTK_ID_TYPE))
    surface.SetPoints(points)
    surface.SetPolys(cells)
    stencil = vtkPolyDataToImageStencil()
    stencil.SetInputData(surface)
    stencil.SetOutputOrigin(*low)
    stencil.SetOutputSpacing(spacing_mm, spacing_mm, spacing_mm)
    stencil.SetOutputWholeExtent(0, shape[2] - 1, 0, shape[1] - 1, 0, shape[0] - 1)
    to_image = vtkImageStencilToImage()
    to_image.SetInputConnection(stencil.GetOutputPort())
    to_image.SetInsideValue(1)
    to_image.SetOutsideValue(0)
    to_image.SetOutputScalarTypeToUnsignedChar()
    to_image.Update()
    return np.asarray(vtk_to_numpy(to_image.GetOutput().GetPointData().GetScalars()).reshape(shape) > 0)
