"""Opens every file of a job folder again, with other libraries than wrote it, and compares what it says with the values."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt

from batchone.pipeline.errors import MachineError
from batchone.pipeline.job.contours import LayerFigures, cli_figures
from batchone.pipeline.job.measure import MeshFigures, measure_mesh, measure_triangles
from batchone.pipeline.process import Process
from batchone.pipeline.values import Build, Mesh, Part
from batchone.slicer.cli_format import read_cli
from batchone.slicer.layers import Layers
from batchone.slicer.threemf import read_3mf

_LENGTH_MM = 1e-3  # STL holds 32-bit numbers: 2e-5 mm at 300 mm; two orders of room, still far below any tolerance
_RELATIVE = 1e-5  # of the volume, for the same reason
_LAYER_RELATIVE = 5e-3  # layers against mesh volume: what the slicer itself must hold
_PDF_END = b"%%EOF"
_AGAIN = "run packaging again; if it stays, the disk or the memory is at fault"


def reread_stl(part: Part, data: bytes) -> MeshFigures:
    """Measure an STL file, read with numpy-stl, and compare it with the part: its figures, then corner by corner.

    Raises
    ------
    MachineError
        A figure is off, or a corner of a triangle lies elsewhere: a vertex can move without a change of any figure.
    """
    from stl import Mode
    from stl.mesh import Mesh as StlMesh

    name = f"parts/{part.name}.stl"
    try:
        read = StlMesh.from_file(name, fh=io.BytesIO(data), mode=Mode.BINARY, calculate_normals=False)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise MachineError(f"{name} cannot be read back: {error}", hint=_AGAIN) from error
    figures = measure_triangles(np.asarray(read.vectors))
    _refuse(name, measure_mesh(part.mesh), figures)
    wanted = part.mesh.vertices_mm[part.mesh.faces].reshape(-1, 3)
    off_mm = np.abs(np.asarray(read.vectors, dtype=np.float64).reshape(-1, 3) - wanted).max(axis=1)
    worst = int(off_mm.argmax())
    if not off_mm[worst] <= _LENGTH_MM:
        x, y, z = wanted[worst].tolist()
        raise MachineError(
            f"{name} read back: corner at ({x:.3f}, {y:.3f}, {z:.3f}) mm is {off_mm[worst]:.3f} mm off, "
            f"at most {_LENGTH_MM:g} mm",
            hint=_AGAIN,
        )
    return figures


def reread_3mf(part: Part, data: bytes) -> None:
    """Read a part's 3MF file with lib3mf in strict mode and compare it with the part.

    Raises
    ------
    MachineError
        The file is refused, or a figure is off.
    """
    name = f"parts/{part.name}.3mf"
    _refuse(name, measure_mesh(part.mesh), measure_triangles(_placed_corners(data)))


def reread_plate(build: Build, parts: tuple[Part, ...]) -> None:
    """Read the plate with lib3mf: every placed part is there, where its placement says, and what carries it.

    Raises
    ------
    MachineError
        A body is missing, too many, or off.
    """
    items = read_3mf(build.plate_3mf)
    bodies = len(build.placements) + len(build.supports)
    if len(items) != bodies:
        raise MachineError(f"build/plate.3mf has {len(items)} bodies, must be {bodies}", hint=_AGAIN)
    meshes = {part.name: part.mesh for part in parts}
    placed = [measure_mesh(meshes[p.part].moved(p.pose)) for p in build.placements]
    placed += [measure_mesh(support.mesh) for support in build.supports]
    found = [measure_mesh(item.mesh.moved(item.pose)) for item in items]
    for wanted, figures in zip(sorted(placed, key=_order), sorted(found, key=_order), strict=True):
        _refuse("build/plate.3mf", wanted, figures)


def reread_layers(data: bytes, build: Build, parts: tuple[Part, ...], process: Process) -> LayerFigures:
    """Read the layers twice, with the slicer's reader and the verifier's: count and volume agree with build and parts.

    Raises
    ------
    MachineError
        The file is refused, or a figure is off.
    """
    name = "build/layers.cli"
    read = read_cli(data)
    figures = cli_figures(data)
    if not len(read.top_mm) == figures.layers == build.estimate.layers:
        raise MachineError(f"{name} has {figures.layers} layers, must be {build.estimate.layers}", hint=_AGAIN)
    meshes = {part.name: part.mesh for part in parts}
    wanted = sum(measure_mesh(meshes[p.part]).volume_mm3 for p in build.placements)
    wanted += sum(support.volume_mm3 for support in build.supports)
    # each part's last layer is written full, however little of it the part fills
    last = (
        sum(_top_area_mm2(read.layers, index) for index in range(len(build.placements) + len(build.supports))) * process.layer_mm
    )
    low, high = wanted * (1.0 - _LAYER_RELATIVE), wanted * (1.0 + _LAYER_RELATIVE) + last
    if not low <= figures.volume_mm3 <= high:
        raise MachineError(f"{name} has {figures.volume_mm3:.1f} mm3, must be {low:.1f} to {high:.1f} mm3", hint=_AGAIN)
    return figures


def reread_png(name: str, data: bytes) -> None:
    """Decode a picture.

    Raises
    ------
    MachineError
        Not a picture, or one colour only.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(data)) as picture:
            lowest, highest = picture.convert("L").getextrema()
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise MachineError(f"{name} is not a readable picture", hint=_AGAIN) from error
    if lowest == highest:
        raise MachineError(f"{name} shows nothing: all of it is one grey", hint=_AGAIN)


def reread_pdf(name: str, data: bytes) -> None:
    """Check the frame of a PDF file.

    Raises
    ------
    MachineError
        It does not begin and end as a PDF, or has no page.
    """
    if not data.startswith(b"%PDF-") or not data.rstrip().endswith(_PDF_END) or b"/Page" not in data:
        raise MachineError(f"{name} is not a whole PDF", hint=_AGAIN)


def _top_area_mm2(layers: Layers, part: int) -> float:
    area = layers.area_mm2(part)
    filled = np.flatnonzero(area > 0.0)
    return float(area[filled[-1]]) if len(filled) else 0.0


def _placed_corners(data: bytes) -> npt.NDArray[np.float64]:
    placed: list[Mesh] = [item.mesh.moved(item.pose) for item in read_3mf(data)]
    return np.concatenate([mesh.vertices_mm[mesh.faces] for mesh in placed])


def _order(figures: MeshFigures) -> tuple[tuple[float, ...], int]:
    return (tuple(round(value, 2) for value in figures.box_low_mm), figures.triangles)


def _refuse(name: str, wanted: MeshFigures, figures: MeshFigures) -> None:
    faults = wanted.differences(figures, length_mm=_LENGTH_MM, relative=_RELATIVE)
    if faults:
        raise MachineError(f"{name} read back: " + "; ".join(faults), hint=_AGAIN)
