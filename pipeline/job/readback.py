"""Opens every file of a job folder again, most with other libraries than wrote it, and measures it against the values."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt

from batchone.pipeline.errors import MachineError
from batchone.pipeline.findings import places_of_breaches
from batchone.pipeline.job.contours import LayerFigures, cli_figures
from batchone.pipeline.job.measure import MeshFigures, measure_mesh, measure_triangles
from batchone.pipeline.process import Process
from batchone.pipeline.values import Build, Finding, FloatArray, Mesh, Part, Vector, judge
from batchone.slicer.cli_format import read_cli
from batchone.slicer.layers import Layers
from batchone.slicer.places import furthest, in_patient, poses_of
from batchone.slicer.threemf import read_3mf

FILES = "files"  # the check
_LENGTH_MM = 1e-3  # STL holds 32-bit numbers: 2e-5 mm at 300 mm; two orders of room, still far below any tolerance
_VOLUME_PPM = 10.0  # for the same reason
_LAYER_RELATIVE = 5e-3  # layers against mesh volume: what the slicer itself must hold
_ROUNDING = "numerical: 32-bit numbers of the file, and two orders of room"
_COUNTED = "the device and build that were approved"
_PDF_END = b"%%EOF"
_AGAIN = "run packaging again; if it stays, the disk or the memory is at fault"


def reread_stl(part: Part, data: bytes) -> tuple[MeshFigures | None, tuple[Finding, ...]]:
    """Measure an STL file, read with numpy-stl, against the part: its figures, and how far its corners lie from the part's.

    Without figures where it cannot be read or measured; then a finding has failed.
    """
    from stl import Mode
    from stl.mesh import Mesh as StlMesh

    name = f"parts/{part.name}.stl"
    try:
        read = StlMesh.from_file(name, fh=io.BytesIO(data), mode=Mode.BINARY, calculate_normals=False)
    except (RuntimeError, AssertionError, ValueError) as error:
        return None, (_unreadable(name, error),)
    corners_mm = np.asarray(read.vectors)
    figures = _measured(corners_mm)
    return figures, _mesh_findings(name, part.mesh, corners_mm, figures)


def reread_3mf(part: Part, data: bytes) -> tuple[Finding, ...]:
    """Measure a part's 3MF file, read with lib3mf in strict mode, against the part."""
    name = f"parts/{part.name}.3mf"
    try:
        items = read_3mf(data)
    except MachineError as error:
        return (_unreadable(name, error),)
    corners_mm = np.concatenate([np.empty((0, 3, 3)), *(_corners_mm(item.mesh.moved(item.pose)) for item in items)])
    return _mesh_findings(name, part.mesh, corners_mm, _measured(corners_mm))


def reread_plate(build: Build, parts: tuple[Part, ...]) -> tuple[Finding, ...]:
    """Measure the plate, read with lib3mf: every placed part is there, where its placement says, and what carries it."""
    name = "build/plate.3mf"
    try:
        items = read_3mf(build.plate_3mf)
    except MachineError as error:
        return (_unreadable(name, error),)
    meshes = {part.name: part.mesh for part in parts}
    bodies = [(p.part, meshes[p.part].moved(p.pose)) for p in build.placements]
    bodies += [(support.name, support.mesh) for support in build.supports]
    findings = [_counted(f"bodies on {name}", len(items), len(bodies))]
    if len(items) != len(bodies):
        return tuple(findings)
    poses = poses_of(build.placements, build.supports)
    for item, (body, mesh), pose in zip(items, bodies, poses, strict=True):
        corners_mm = _corners_mm(item.mesh.moved(item.pose))
        findings += _mesh_findings(f"{body} on {name}", mesh, corners_mm, _measured(corners_mm), pose)
    return tuple(findings)


def reread_layers(
    data: bytes, build: Build, parts: tuple[Part, ...], process: Process
) -> tuple[LayerFigures | None, tuple[Finding, ...]]:
    """Read the layers twice, with the slicer's reader and the verifier's: count and volume against build and parts.

    Without figures where they cannot be read; then a finding has failed.
    """
    name = "build/layers.cli"
    try:
        read, figures = read_cli(data), cli_figures(data)
    except MachineError as error:
        return None, (_unreadable(name, error),)
    meshes = {part.name: part.mesh for part in parts}
    wanted = sum(measure_mesh(meshes[p.part]).volume_mm3 for p in build.placements)
    wanted += sum(support.volume_mm3 for support in build.supports)
    # each part's last layer is written full, however little of it the part fills
    last = (
        sum(_top_area_mm2(read.layers, index) for index in range(len(build.placements) + len(build.supports))) * process.layer_mm
    )
    low, high = wanted * (1.0 - _LAYER_RELATIVE), wanted * (1.0 + _LAYER_RELATIVE) + last
    return figures, (
        _counted(f"layers of {name} by the slicer's reader", len(read.top_mm), build.estimate.layers),
        _counted(f"layers of {name} by the verifier's reader", figures.layers, build.estimate.layers),
        judge(
            FILES,
            f"volume of the layers of {name}, each as high as a layer",
            figures.volume_mm3,
            "mm3",
            low=low,
            high=high,
            hint=_AGAIN,
            source="project default: 0.5 % of parts and supports, and their last layers",
        ),
    )


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


def _corners_mm(mesh: Mesh) -> FloatArray:
    return mesh.vertices_mm[mesh.faces]


def _measured(corners_mm: npt.NDArray[np.floating]) -> MeshFigures | None:
    """The figures of what there is; None where that is nothing, or a corner is no number."""
    return measure_triangles(corners_mm) if len(corners_mm) > 0 and bool(np.isfinite(corners_mm).all()) else None


def _unreadable(name: str, error: Exception) -> Finding:
    hint = (error.hint if isinstance(error, MachineError) else "") or _AGAIN
    return judge(FILES, f"faults that keep {name} from being read ({error})", 1, "", high=0, hint=hint, source=_COUNTED)


def _counted(what: str, value: int, wanted: int, where_mm: Vector | None = None) -> Finding:
    return judge(FILES, what, value, "", low=wanted, high=wanted, hint=_AGAIN, source=_COUNTED, where_mm=where_mm)


def _mesh_findings(
    name: str, mesh: Mesh, corners_mm: npt.NDArray[np.floating], figures: MeshFigures | None, pose: FloatArray | None = None
) -> tuple[Finding, ...]:
    """How a body read from a file, corners (n, 3, 3) and their figures, differs from its mesh: triangles, volume, and where a
    corner lies, which can be elsewhere without a change of any other figure. ``pose`` leads from patient LPS to the frame of
    both; None: LPS. Another number of triangles has the place of the first that differs, a corner elsewhere that of the worst."""
    wanted_mm = _corners_mm(mesh)
    off_mm, worst = furthest(corners_mm.reshape(-1, 3), wanted_mm.reshape(-1, 3))
    place = None if worst is None else in_patient(wanted_mm.reshape(-1, 3)[worst], np.eye(4) if pose is None else pose)
    volume_mm3 = measure_mesh(mesh).volume_mm3
    found_mm3 = np.nan if figures is None else figures.volume_mm3
    findings = (
        _counted(f"triangles of {name}", len(corners_mm), len(wanted_mm), place),
        judge(
            FILES,
            f"relative difference of the volume of {name}",
            1e6 * abs(found_mm3 - volume_mm3) / abs(volume_mm3),
            "ppm",
            high=_VOLUME_PPM,
            hint=_AGAIN,
            source=_ROUNDING,
        ),
        judge(
            FILES,
            f"largest distance of a corner of {name} from where it belongs",
            off_mm,
            "mm",
            high=_LENGTH_MM,
            hint=_AGAIN,
            source=_ROUNDING,
            where_mm=place,
        ),
    )
    return places_of_breaches(findings)
