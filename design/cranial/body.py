"""From a plan to the printable implant: blank, holes, label, one labelled part in LPS."""

from __future__ import annotations

import logging

import numpy as np

from batchone.design import solid
from batchone.design.booleans import Solid, difference, handles_of, simplify, solid_from_labelled_mesh, solid_from_mesh, to_part
from batchone.design.cranial.blank import Blank, Sizes, make_blank
from batchone.design.cranial.columns import local_plan
from batchone.design.cranial.engraving import Label, engraving_tool, label_features, place_label
from batchone.design.cranial.features import FIXATION, PERFORATION, Holes, fixation_holes, perforations
from batchone.design.cranial.field import FACES
from batchone.design.families.cranial_implant import CranialImplantParameters
from batchone.design.family import parameters_of
from batchone.design.process_limits import refuse_below_process
from batchone.pipeline.errors import DesignError
from batchone.pipeline.order import Order
from batchone.pipeline.process import Process
from batchone.pipeline.values import Anatomy, Device, FunctionalFace, Plan

PART = "implant"

_LEAST_BONE_THICKNESS_MM = 2.0  # where the inner face follows the bone, no thinner than this; K250334: 2 to 10 mm
_SIMPLIFY_MM = 0.005  # numerical: a twentieth of the finest process tolerance (0.1 mm, LPBF)
_BORDER_TOLERANCE_MM = 0.15  # how much of the gap may be lost: least gap 0.15 mm below the ordered one; project target
_FIXATION_TOLERANCE_MM = 0.1  # a screw of 2.0 mm still passes a hole of 2.2 mm; project default, unverified

_log = logging.getLogger(__name__)


def build_implant(anatomy: Anatomy, plan: Plan, order: Order, process: Process) -> Device:
    """Make the implant.

    Parameters
    ----------
    anatomy
        Holds the bone ``skull`` with the defect.
    plan
        Curve ``rim``, axes ``vault-centre`` and ``insertion``, surfaces ``contour-outer`` and ``contour-inner``, in LPS mm.
    order
        With :class:`CranialImplantParameters`.
    process
        Gives the label's height, line and depth, and the thinnest wall.

    Returns
    -------
    Device
        One part ``implant`` whose faces are ``outer``, ``inner``, ``border`` (the wall that faces the rim), ``skirt`` (wall below
        the inner table), ``edge`` (rounding), ``perforation``, ``fixation`` and ``label``.

    Raises
    ------
    OrderError
        The process cannot hold holes so narrow.
    DesignError
        There is no skull, or no closed body of these parameters.
    """
    parameters = parameters_of(order, CranialImplantParameters)
    skull = anatomy.bone("skull")
    if skull is None:
        raise DesignError("the anatomy holds 0 bones named skull, must hold 1", hint="segment the scan again")
    refuse_below_process(_holes(parameters), process)
    blank = make_blank(skull, local_plan(skull, plan), _sizes(parameters, process))
    if blank.dropped_mm3 > 0.0:
        _log.info("left out loose pieces of %.2f mm3", blank.dropped_mm3)
    screws = fixation_holes(
        blank,
        count=parameters.fixation_holes,
        diameter_mm=parameters.fixation_hole_mm,
        border_mm=parameters.fixation_border_mm,
    )
    label = _label(blank, order.case, process, screws) if parameters.engrave else None
    drains = perforations(
        blank,
        diameter_mm=parameters.perforation_mm,
        pitch_mm=parameters.perforation_pitch_mm,
        border_mm=parameters.perforation_border_mm,
        screws=screws,
        label=label,
    )
    whole = solid_from_labelled_mesh(blank.mesh, FACES, blank.labels)
    body, features = _with_features(blank, whole, (drains, screws), label)
    holes = len(drains.points_mm) + len(screws.points_mm)
    part = to_part(
        body,
        PART,
        functional_faces=_functional(screws),
        step=solid.step_of(features, pose=blank.local.pose),
        pose=blank.local.pose,
        handles=handles_of(whole) + holes,
    )
    return Device("cranial-implant", (part,), _figures(blank, body, drains=drains, screws=screws, label=label))


def _holes(parameters: CranialImplantParameters) -> dict[str, tuple[float, str]]:
    """The holes that are made, each with the limit of the process that it must reach."""
    there = {"perforation_mm": parameters.perforation_pitch_mm > 0.0, "fixation_hole_mm": parameters.fixation_holes > 0}
    return {name: (float(getattr(parameters, name)), "min_hole_mm") for name, made in there.items() if made}


def _sizes(parameters: CranialImplantParameters, process: Process) -> Sizes:
    follows = parameters.thickness_mode == "bone"
    return Sizes(
        gap_mm=parameters.border_gap_mm,
        thickness_mm=_LEAST_BONE_THICKNESS_MM if follows else parameters.thickness_mm,
        follows_bone=follows,
        under_mm=parameters.under_contour_mm,
        edge_radius_mm=parameters.edge_radius_mm,
        min_wall_mm=process.min_wall_mm,
    )


def _label(blank: Blank, code: str, process: Process, screws: Holes) -> Label:
    return place_label(blank, code, process, taken_mm=screws.points_mm, taken_radius_mm=0.5 * screws.diameter_mm)


def _with_features(
    blank: Blank, whole: Solid, holes: tuple[Holes, ...], label: Label | None
) -> tuple[Solid, tuple[solid.Feature, ...]]:
    body = simplify(whole, _SIMPLIFY_MM)
    tools: list[Solid] = []
    features: list[solid.Feature] = []
    for group in holes:
        made = group.features(blank)
        features.extend(made)
        tools.extend(solid_from_mesh(feature.mesh, group.label) for feature in made)
    if label is not None:
        letters = label_features(label)
        features.extend(letters)
        tools.append(engraving_tool(blank, label, letters))
    if tools:
        body = difference(body, *tools, what="holes and label")
    return body, tuple(features)


def _functional(screws: Holes) -> tuple[FunctionalFace, ...]:
    border = FunctionalFace("border", "stands off the bone by the border gap", _BORDER_TOLERANCE_MM)
    if len(screws.points_mm) == 0:
        return (border,)
    return (border, FunctionalFace(FIXATION, "takes the screws of the plates", _FIXATION_TOLERANCE_MM))


def _figures(blank: Blank, body: Solid, *, drains: Holes, screws: Holes, label: Label | None) -> tuple[tuple[str, float], ...]:

    size = np.ptp(blank.mesh.vertices_mm, axis=0)
    return (
        ("volume_mm3", float(body.manifold.volume())),
        ("length_mm", float(size[:2].max())),
        ("width_mm", float(size[:2].min())),
        ("height_mm", float(size[2])),
        (f"{PERFORATION}s", float(len(drains.points_mm))),
        (f"{FIXATION}_holes", float(len(screws.points_mm))),
        ("label_depth_mm", 0.0 if label is None else label.depth_mm),
        ("dropped_mm3", blank.dropped_mm3),
    )
