"""What a STEP file holds, read back with OCCT: its length units, and each solid with its name, validity and surface."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from batchone.design.tessellation import tessellate, triangles_of_faces
from batchone.pipeline.errors import DesignError
from batchone.pipeline.values import Mesh, Vector

if TYPE_CHECKING:
    from OCP.TDF import TDF_Label
    from OCP.TopoDS import TopoDS_Shape

_NUMBER = re.compile(r"^\d+ ")  # of a feature in its file


@dataclass(frozen=True, slots=True, eq=False)
class StepSolid:
    """One solid of a STEP file, mm; or what is in a feature beside its solids, or instead of them, which is not ``whole``.

    Attributes
    ----------
    name
        Of the feature it belongs to, without its number.
    whole
        Closed, valid by OCCT's analysis, and of positive volume.
    centre_mm
        Centre of mass, of the surface where it is not whole; None where there is nothing.
    mesh
        Its surface in triangles, outward, as fine as those of the features; not welded.
    """

    name: str
    whole: bool
    centre_mm: Vector | None
    mesh: Mesh


def read_step(data: bytes) -> tuple[tuple[str, ...], tuple[StepSolid, ...]]:
    """Read a STEP file: the length units that it declares, and its solids with coordinates turned into mm.

    Raises
    ------
    DesignError
        OCCT cannot read it.
    """
    _silence()
    from OCP.IFSelect import IFSelect_RetDone
    from OCP.STEPCAFControl import STEPCAFControl_Reader
    from OCP.TCollection import TCollection_ExtendedString
    from OCP.TColStd import TColStd_SequenceOfAsciiString
    from OCP.TDocStd import TDocStd_Document

    reader = STEPCAFControl_Reader()
    reader.SetNameMode(True)
    reader.SetColorMode(False)
    reader.SetLayerMode(False)
    if reader.ReadStream("part.step", BytesIO(data)) != IFSelect_RetDone:
        raise DesignError("STEP file cannot be read back", hint="report this order")
    lengths, angles, solid_angles = (TColStd_SequenceOfAsciiString() for _ in range(3))
    reader.ChangeReader().FileUnits(lengths, angles, solid_angles)
    units = tuple(lengths.Value(index).ToCString() for index in range(1, lengths.Length() + 1))
    document = TDocStd_Document(TCollection_ExtendedString("XmlXCAF"))
    if not reader.Transfer(document):
        return units, ()
    return units, tuple(_solid(name, one) for name, shape in _named(document) for one in _bodies(shape))


def _silence() -> None:
    """Nothing that OCCT says may reach the standard output, where an answer for programs may stand."""
    from OCP.Message import Message, Message_PrinterOStream

    Message.DefaultMessenger_s().RemovePrinters(Message_PrinterOStream.get_type_descriptor_s())


def _named(document: Any) -> Iterator[tuple[str, TopoDS_Shape]]:
    """The features by name, where they stand in the whole."""
    from OCP.TDF import TDF_Label, TDF_LabelSequence
    from OCP.XCAFDoc import XCAFDoc_DocumentTool, XCAFDoc_ShapeTool

    free = TDF_LabelSequence()
    XCAFDoc_DocumentTool.ShapeTool_s(document.Main()).GetFreeShapes(free)
    for root in (free.Value(index) for index in range(1, free.Length() + 1)):
        uses = TDF_LabelSequence()
        XCAFDoc_ShapeTool.GetComponents_s(root, uses)
        if not uses.Length():
            yield _name(root), XCAFDoc_ShapeTool.GetShape_s(root)
        for use in (uses.Value(index) for index in range(1, uses.Length() + 1)):
            product = TDF_Label()
            XCAFDoc_ShapeTool.GetReferredShape_s(use, product)
            yield _name(product), XCAFDoc_ShapeTool.GetShape_s(use)


def _name(label: TDF_Label) -> str:
    from OCP.TDataStd import TDataStd_Name

    found = TDataStd_Name()
    named = label.FindAttribute(TDataStd_Name.GetID_s(), found)
    return _NUMBER.sub("", found.Get().ToExtString()) if named else ""


def _bodies(shape: TopoDS_Shape) -> list[TopoDS_Shape]:
    """The solids of a feature, and one of all faces that are in none; the feature itself where there is neither."""
    from OCP.BRep import BRep_Builder
    from OCP.TopoDS import TopoDS_Compound

    tessellate(shape)
    found, loose = _each(shape, "SOLID"), _each(shape, "FACE", outside="SOLID")
    if found and loose:
        builder, rest = BRep_Builder(), TopoDS_Compound()
        builder.MakeCompound(rest)
        for face in loose:
            builder.Add(rest, face)
        found.append(rest)
    return found or [shape]


def _each(shape: TopoDS_Shape, kind: str, *, outside: str = "SHAPE") -> list[Any]:
    """All of a kind in a shape, those in another kind left out."""
    from OCP.TopAbs import TopAbs_ShapeEnum
    from OCP.TopExp import TopExp_Explorer

    wanted, left_out = (getattr(TopAbs_ShapeEnum, f"TopAbs_{one}") for one in (kind, outside))
    found, explorer = [], TopExp_Explorer(shape, wanted, left_out)
    while explorer.More():
        found.append(explorer.Current())
        explorer.Next()
    return found


def _solid(name: str, shape: TopoDS_Shape) -> StepSolid:
    from OCP.BRep import BRep_Tool
    from OCP.BRepCheck import BRepCheck_Analyzer
    from OCP.BRepGProp import BRepGProp
    from OCP.GProp import GProp_GProps
    from OCP.TopAbs import TopAbs_ShapeEnum
    from OCP.TopoDS import TopoDS

    faces = [TopoDS.Face_s(face) for face in _each(shape, "FACE")]
    if not faces:
        return StepSolid(name, False, None, Mesh(np.empty((0, 3)), np.empty((0, 3), dtype=np.int32)))
    mass = GProp_GProps()
    BRepGProp.VolumeProperties_s(shape, mass)
    closed = all(BRep_Tool.IsClosed_s(shell) for shell in _each(shape, "SHELL"))
    solid = shape.ShapeType() == TopAbs_ShapeEnum.TopAbs_SOLID and closed and mass.Mass() > 0.0
    whole = solid and bool(BRepCheck_Analyzer(shape).IsValid())
    if not whole:
        BRepGProp.SurfaceProperties_s(shape, mass := GProp_GProps())
    centre = mass.CentreOfMass()
    vertices_mm, triangles = triangles_of_faces(faces)
    return StepSolid(name, whole, (centre.X(), centre.Y(), centre.Z()), Mesh(vertices_mm, triangles.astype(np.int32)))
