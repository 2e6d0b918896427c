"""What a STEP file holds, read back with OCCT: its length units, and each solid with its name, its validity and its surfaces."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np

from batchone.pipeline.errors import DesignError
from batchone.pipeline.values import FloatArray, Vector

if TYPE_CHECKING:
    from OCP.TDF import TDF_Label
    from OCP.TopoDS import TopoDS_Shape

_NUMBER = re.compile(r"^\d+ ")  # of a feature in its file
_CONVEX_MM = 1e-6  # numerical: corners of a convex solid lie on its surfaces or inside; OCCT's own tolerance is 1e-7 mm


@dataclass(frozen=True, slots=True, eq=False)
class StepSolid:
    """One solid of a STEP file, mm; or a feature in which there is none, which is not ``whole``.

    Attributes
    ----------
    name
        Of the feature it belongs to, without its number.
    whole
        Closed, valid by OCCT's analysis, and of positive volume.
    centre_mm
        Centre of mass, of the surface where it is not whole; None where there is nothing.
    box_mm
        (2, 3): low and high; not a number where it is convex, or empty.
    planes
        (n, 4): outward unit normal, and distance of the origin above the plane.
    rounds
        (n, 7): a point of the axis, its direction, and the radius of each cylinder.
    convex
        Bounded by these planes and cylinders alone, all of it inside each.
    """

    name: str
    whole: bool
    centre_mm: Vector | None
    box_mm: FloatArray
    planes: FloatArray
    rounds: FloatArray
    convex: bool

    def distances_mm(self, points_mm: FloatArray) -> FloatArray:
        """How far points (n, 3) lie off the surface of a convex solid at most; off the box of any other, 0 within."""
        if not self.convex:
            return np.maximum(self.box_mm[0] - points_mm, points_mm - self.box_mm[1]).max(axis=1).clip(min=0.0)
        above = [points_mm @ plane[:3] + plane[3] for plane in self.planes]
        above += [round_mm(points_mm, one) for one in self.rounds]
        return np.asarray(np.abs(np.max(above, axis=0)))


def round_mm(points_mm: FloatArray, cylinder: FloatArray) -> FloatArray:
    """How far points (n, 3) lie outside an endless cylinder (7,), mm; below 0 inside."""
    away = points_mm - cylinder[:3]
    along = away @ cylinder[3:6]
    return np.asarray(np.sqrt(np.maximum((away * away).sum(axis=1) - along * along, 0.0)) - cylinder[6])


def read_step(data: bytes) -> tuple[tuple[str, ...], tuple[StepSolid, ...]]:
    """Read a STEP file: the length units that it declares, and its solids with coordinates turned into mm.

    Raises
    ------
    DesignError
        OCCT cannot read it.
    """
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
    return units, tuple(_solid(name, solid) for name, shape in _named(document) for solid in (_each(shape, "SOLID") or [shape]))


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


def _each(shape: TopoDS_Shape, kind: str) -> list[Any]:
    from OCP import TopAbs
    from OCP.TopExp import TopExp_Explorer

    found, explorer = [], TopExp_Explorer(shape, getattr(TopAbs.TopAbs_ShapeEnum, f"TopAbs_{kind}"))
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

    if not _each(shape, "FACE"):
        return StepSolid(name, False, None, np.full((2, 3), np.nan), np.empty((0, 4)), np.empty((0, 7)), False)
    mass = GProp_GProps()
    BRepGProp.VolumeProperties_s(shape, mass)
    closed = all(BRep_Tool.IsClosed_s(shell) for shell in _each(shape, "SHELL"))
    solid = shape.ShapeType() == TopAbs_ShapeEnum.TopAbs_SOLID and closed and mass.Mass() > 0.0
    whole = solid and bool(BRepCheck_Analyzer(shape).IsValid())
    if not whole:
        BRepGProp.SurfaceProperties_s(shape, mass := GProp_GProps())
    centre = np.array(mass.CentreOfMass().Coord())
    planes, rounds, others = _surfaces(shape, centre)
    corners = np.array([BRep_Tool.Pnt_s(TopoDS.Vertex_s(vertex)).Coord() for vertex in _each(shape, "VERTEX")]).reshape(-1, 3)
    above = [corners @ plane[:3] + plane[3] for plane in planes] + [round_mm(corners, one) for one in rounds]
    inside = bool(above) and len(corners) > 0 and float(np.max(above)) <= _CONVEX_MM
    convex = whole and others == 0 and inside and all(round_mm(centre[None], one)[0] < 0.0 for one in rounds)
    x, y, z = centre.tolist()
    box_mm = np.full((2, 3), np.nan) if convex else _box_mm(shape)  # its surfaces say more
    return StepSolid(name, whole, (x, y, z), box_mm, planes, rounds, convex)


def _surfaces(shape: TopoDS_Shape, inside_mm: FloatArray) -> tuple[FloatArray, FloatArray, int]:
    """Planes with their normals away from a point inside, cylinders, and how many other surfaces there are."""
    from OCP.BRepAdaptor import BRepAdaptor_Surface
    from OCP.GeomAbs import GeomAbs_SurfaceType
    from OCP.TopoDS import TopoDS

    planes, rounds, others = [], [], 0
    for face in _each(shape, "FACE"):
        surface = BRepAdaptor_Surface(TopoDS.Face_s(face))
        if surface.GetType() == GeomAbs_SurfaceType.GeomAbs_Plane:
            axis = surface.Plane().Axis()
            normal = np.array(axis.Direction().Coord())
            offset = -float(normal @ np.array(axis.Location().Coord()))
            plane = np.array([*normal, offset])
            planes.append(plane if float(inside_mm @ normal) + offset <= 0.0 else -plane)
        elif surface.GetType() == GeomAbs_SurfaceType.GeomAbs_Cylinder:
            cylinder = surface.Cylinder()
            axis = cylinder.Axis()
            rounds.append(np.array([*axis.Location().Coord(), *axis.Direction().Coord(), cylinder.Radius()]))
        else:
            others += 1
    return np.array(planes).reshape(-1, 4), np.array(rounds).reshape(-1, 7), others


def _box_mm(shape: TopoDS_Shape) -> FloatArray:
    from OCP.Bnd import Bnd_Box
    from OCP.BRepBndLib import BRepBndLib

    box = Bnd_Box()
    BRepBndLib.AddOptimal_s(shape, box, False, False)
    return np.array([box.CornerMin().Coord(), box.CornerMax().Coord()])
