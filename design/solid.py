"""Parametric features as CadQuery solids: with ``tessellation`` and ``step_reading``, the only module that knows OCCT's quirks.

Each feature is a B-rep (kept as text, so that the value travels between processes) and its closed, welded triangles.
Quirks dealt with here: a STEP file carries a time and a running number;
text with an unknown font silently falls back to another one, and a missing font file crashes the process.
"""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from batchone.design.tessellation import triangles_of
from batchone.pipeline.errors import DesignError
from batchone.pipeline.values import FloatArray, Mesh, Vector

if TYPE_CHECKING:
    import cadquery as cq

CAP_HEIGHT = 0.729  # height of a capital of DejaVu Sans Bold per font size (1493 of 2048 units)
ARROW_HEAD = 0.45  # share of the length that is head
ARROW_SHAFT = 0.4  # width of the shaft per width of the head
_PRINTABLE = re.compile(r"[!-~](?:[ -~]*[!-~])?")  # ASCII without blanks at the ends: glyphs the font surely has
_FONT = "mpl-data/fonts/ttf/DejaVuSans-Bold.ttf"  # ships with matplotlib: the same letters on every machine
_STEP_TIME = re.compile(rb"(FILE_NAME\('[^']*',)\s*'[^']*'")
_STEP_USE = re.compile(rb"#\d+ = NEXT_ASSEMBLY_USAGE_OCCURRENCE\(.*?\);\n", re.DOTALL)
_STEP_USE_NUMBER = re.compile(rb"(NEXT_ASSEMBLY_USAGE_OCCURRENCE\()\s*'\d+'")
_STEP_WRAP = re.compile(rb"\n +")


@dataclass(frozen=True, eq=False)
class Feature:
    """One parametric feature.

    Attributes
    ----------
    name
        What it is; the product's name in the STEP file.
    mesh
        Closed triangles within 0.01 mm (``tessellation.TESSELLATION_MM``) of the B-rep, mm, in the frame the feature was made in.
    brep
        The exact shape, OCCT's B-rep text.
    """

    name: str
    mesh: Mesh
    brep: bytes

    @cached_property
    def step(self) -> bytes:
        """STEP file of this feature alone, the same bytes in every process."""
        return step_of((self,))


def cylinder(name: str, *, start_mm: Vector, axis: Vector, diameter_mm: float, length_mm: float) -> Feature:
    """Round bar from the centre ``start_mm`` of one end along ``axis``."""
    return cone(
        name, start_mm=start_mm, axis=axis, start_diameter_mm=diameter_mm, end_diameter_mm=diameter_mm, length_mm=length_mm
    )


def cone(
    name: str, *, start_mm: Vector, axis: Vector, start_diameter_mm: float, end_diameter_mm: float, length_mm: float
) -> Feature:
    """Truncated cone from the centre ``start_mm`` of one end along ``axis``: a countersink, a tapered pin.

    Raises
    ------
    DesignError
        A size is not positive.
    """
    import cadquery as cq

    _positive(name, start_diameter_mm=start_diameter_mm, end_diameter_mm=end_diameter_mm, length_mm=length_mm)
    start, direction = cq.Vector(*start_mm), cq.Vector(*axis)
    if start_diameter_mm == end_diameter_mm:
        return _feature(name, cq.Solid.makeCylinder(start_diameter_mm / 2.0, length_mm, start, direction))
    return _feature(name, cq.Solid.makeCone(start_diameter_mm / 2.0, end_diameter_mm / 2.0, length_mm, start, direction))


def box(
    name: str, *, size_mm: Vector, centre_mm: Vector, x_direction: Vector = (1.0, 0.0, 0.0), normal: Vector = (0.0, 0.0, 1.0)
) -> Feature:
    """Block of ``size_mm`` (along x, y and normal) about its centre.

    Raises
    ------
    DesignError
        A size is not positive.
    """
    import cadquery as cq

    _positive(name, x_mm=size_mm[0], y_mm=size_mm[1], z_mm=size_mm[2])
    block = cq.Solid.makeBox(*size_mm, pnt=cq.Vector(*(-0.5 * length for length in size_mm)))
    return _feature(name, block.moved(_location(centre_mm, x_direction, normal)))


def text(
    name: str,
    string: str,
    *,
    height_mm: float,
    depth_mm: float,
    origin: Vector,
    x_direction: Vector,
    normal: Vector,
    above_mm: float = 0.0,
) -> Feature:
    """Letters (DejaVu Sans Bold), read from the side that ``normal`` points to.

    Parameters
    ----------
    name
        Name of the feature.
    string
        Printable ASCII.
    height_mm
        Height of a capital.
    depth_mm
        How far the letters reach below ``origin``, against the normal.
    origin
        Middle of the line of text, mm.
    x_direction, normal
        Reading direction, and the direction to the reader.
    above_mm
        How far the letters reach above ``origin``: more than 0 for a tool that must cut through a curved surface.

    Raises
    ------
    DesignError
        A size is not positive, or a character is not printable ASCII.
    """
    import cadquery as cq

    _positive(name, height_mm=height_mm, depth_mm=depth_mm)
    if not _PRINTABLE.fullmatch(string):
        raise DesignError(f"text {name}: {string!r} must be printable ASCII without blanks at its ends", hint="change the label")
    glyphs = _glyphs(string, height_mm)
    bounds = glyphs.BoundingBox()
    shift = cq.Vector(-0.5 * (bounds.xmin + bounds.xmax), -0.5 * height_mm, -depth_mm)
    letters = [cq.Solid.extrudeLinear(face, cq.Vector(0.0, 0.0, depth_mm + above_mm)) for face in glyphs.Faces()]
    solid = cq.Compound.makeCompound([letter.moved(cq.Location(shift)) for letter in letters])
    return _feature(name, solid.moved(_location(origin, x_direction, normal)))


def text_width_mm(string: str, height_mm: float) -> float:
    """Width of printable ASCII as :func:`text` writes it."""
    return float(_glyphs(string, height_mm).BoundingBox().xlen)


def arrow(
    name: str,
    *,
    length_mm: float,
    width_mm: float,
    depth_mm: float,
    origin: Vector,
    direction: Vector,
    normal: Vector,
    above_mm: float = 0.0,
) -> Feature:
    """Flat arrow about its middle ``origin``, pointing along ``direction``; depth as in :func:`text`.

    Raises
    ------
    DesignError
        A size is not positive.
    """
    import cadquery as cq

    _positive(name, length_mm=length_mm, width_mm=width_mm, depth_mm=depth_mm)
    tip, tail, neck = 0.5 * length_mm, -0.5 * length_mm, (0.5 - ARROW_HEAD) * length_mm
    head, shaft = 0.5 * width_mm, 0.5 * ARROW_SHAFT * width_mm
    outline = [(tail, -shaft), (neck, -shaft), (neck, -head), (tip, 0.0), (neck, head), (neck, shaft), (tail, shaft)]
    wire = cq.Wire.makePolygon([cq.Vector(x, y, -depth_mm) for x, y in outline], close=True)
    solid = cq.Solid.extrudeLinear(cq.Face.makeFromWires(wire), cq.Vector(0.0, 0.0, depth_mm + above_mm))
    return _feature(name, solid.moved(_location(origin, direction, normal)))


def placed(feature: Feature, name: str, pose: FloatArray) -> Feature:
    """Return a copy of the feature under a rigid motion (4, 4), with a name of its own."""
    import cadquery as cq

    shape = cq.Shape.importBrep(BytesIO(feature.brep)).moved(_pose_location(pose))
    return Feature(name, feature.mesh.moved(pose), _brep(shape))


def step_of(features: tuple[Feature, ...], *, pose: FloatArray | None = None) -> bytes:
    """Write one STEP assembly (AP214) of the features, each a named product; no time, no path: the same bytes in every process.

    Parameters
    ----------
    features
        What goes in, in this order; empty gives empty bytes.
    pose
        (4, 4) rigid motion from the features' frame to LPS; None when they are in LPS.

    Raises
    ------
    DesignError
        OCCT could not write it.
    """
    if not features:
        return b""
    import cadquery as cq
    from cadquery.occ_impl.assembly import toCAF
    from OCP.IFSelect import IFSelect_RetDone
    from OCP.Interface import Interface_Static
    from OCP.STEPCAFControl import STEPCAFControl_Writer
    from OCP.STEPControl import STEPControl_AsIs

    location = cq.Location() if pose is None else _pose_location(pose)
    assembly = cq.Assembly(name="features")
    for position, feature in enumerate(features, start=1):
        shape = cq.Shape.importBrep(BytesIO(feature.brep))
        assembly.add(shape, name=f"{position:03d} {feature.name}", loc=location)
    writer, stream = STEPCAFControl_Writer(), BytesIO()
    writer.SetNameMode(True)
    Interface_Static.SetIVal_s("write.surfacecurve.mode", 0)  # no curves in parameter space: a third of the size
    writer.Transfer(toCAF(assembly)[1], STEPControl_AsIs)
    if writer.WriteStream(stream) != IFSelect_RetDone:
        raise DesignError(f"STEP file of {len(features)} features could not be written", hint="report this order")
    return _normalised(stream.getvalue())


def _normalised(raw: bytes) -> bytes:
    """Replace what differs between two runs: the time in the header and the running number of each use."""
    uses = count(1)

    def renumbered(match: re.Match[bytes]) -> bytes:
        record = _STEP_WRAP.sub(b"", match.group(0))  # where the line wraps depends on the digits of the number
        return _STEP_USE_NUMBER.sub(rb"\g<1>'%d'" % next(uses), record)

    return _STEP_USE.sub(renumbered, _STEP_TIME.sub(rb"\1''", raw, count=1))


def _feature(name: str, shape: cq.Shape) -> Feature:
    return Feature(name, triangles_of(name, shape), _brep(shape))


def _brep(shape: cq.Shape) -> bytes:
    from OCP.BRepTools import BRepTools

    BRepTools.Clean_s(shape.wrapped)  # the triangles would be written too
    stream = BytesIO()
    shape.exportBrep(stream)
    return stream.getvalue()


def _glyphs(string: str, height_mm: float) -> cq.Shape:
    """Flat letters with the baseline at y = 0."""
    import cadquery as cq
    from OCP.Graphic3d import Graphic3d_HTA_LEFT, Graphic3d_VTA_TOPFIRSTLINE
    from OCP.NCollection import NCollection_Utf8String
    from OCP.StdPrs import StdPrs_BRepFont, StdPrs_BRepTextBuilder

    font = StdPrs_BRepFont(NCollection_Utf8String(str(font_file())), height_mm / CAP_HEIGHT, 0)
    if not font.FTFont().IsValid():
        raise DesignError("the font file of the labels cannot be read", hint="install matplotlib again")
    shape = StdPrs_BRepTextBuilder().Perform(
        font, NCollection_Utf8String(string), theHAlign=Graphic3d_HTA_LEFT, theVAlign=Graphic3d_VTA_TOPFIRSTLINE
    )
    return cq.Shape.cast(shape)


def font_file() -> Path:
    """The font of all labels.

    Raises
    ------
    DesignError
        It is not installed.
    """
    spec = importlib.util.find_spec("matplotlib")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    found = next((Path(folder) / _FONT for folder in folders if (Path(folder) / _FONT).is_file()), None)
    if found is None:
        raise DesignError("the font file of the labels is missing", hint="install matplotlib again: pip install batchone[site]")
    return found


def _location(origin: Vector, x_direction: Vector, normal: Vector) -> cq.Location:
    import cadquery as cq

    return cq.Location(cq.Plane(cq.Vector(*origin), cq.Vector(*x_direction), cq.Vector(*normal)))


def _pose_location(pose: FloatArray) -> cq.Location:
    x, z, origin = pose[:3, 0], pose[:3, 2], pose[:3, 3]
    as_vector = [(float(v[0]), float(v[1]), float(v[2])) for v in (origin, x, z)]
    return _location(as_vector[0], as_vector[1], as_vector[2])


def _positive(name: str, **sizes_mm: float) -> None:
    for what, size in sizes_mm.items():
        if not size > 0.0:
            raise DesignError(
                f"feature {name}: {what.removesuffix('_mm')} is {size:g} mm, must be more than 0 mm", hint="correct the parameter"
            )
