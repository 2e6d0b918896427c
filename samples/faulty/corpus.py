"""The corpus: every fault with the device it is seeded in and the check that must find it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from batchone.samples.faulty import broken_mesh, misbuilt, misguided
from batchone.samples.faulty.case import Fault, Seeder
from batchone.samples.faulty.good import DEVICES
from batchone.samples.vault_hole import hole_axes

GUIDES = ("pedicle-guide", "osteotomy-guide")
BORES = {
    "pedicle-guide": (("bore-L3-left", "trajectory-L3-left"), ("bore-L3-right", "trajectory-L3-right")),
    "osteotomy-guide": (("bore-pin-1", "pin-1"), ("bore-pin-4", "pin-4")),
}
WAYS_OUT = {"pedicle-guide": "insertion-L3", "osteotomy-guide": "insertion"}
_SIDEWAYS = np.array([0.6, 0.0, 0.8])

_MESH: tuple[tuple[str, str, str, Callable[[int], Seeder]], ...] = (
    ("flipped triangle", "mesh", "face opposite ways", broken_mesh.flipped_triangle),
    ("pinhole", "mesh", "open edges", broken_mesh.pinhole),
    ("triangle there twice", "mesh", "more than two triangles", broken_mesh.doubled_triangle),
    ("pinched vertex", "mesh", "join sheets in one point", broken_mesh.pinched_vertex),
    ("self-intersection", "mesh", "pass through others", broken_mesh.crossing_shell),
    ("vertex through the opposite wall", "mesh", "pass through others", broken_mesh.pushed_vertex),
    ("detached island", "mesh", "separate pieces", broken_mesh.island),
    ("trapped cavity", "cavities", "closed cavities", broken_mesh.trapped_cavity),
    ("touching shells", "coincident", "lie on another one", broken_mesh.touching_shell),
)


def faults() -> tuple[Fault, ...]:
    """All faults, those just inside their limits too."""
    return (*_of_meshes(), *_of_shape(), *_of_bores(), *_of_slots(), *_of_contact())


def _of_meshes() -> list[Fault]:
    return [
        Fault(kind, device, check, what, make(place), place)
        for kind, check, what, make in _MESH
        for device in DEVICES
        for place in range(2)
        if not (kind == "trapped cavity" and device == "cranial-implant" and place > 0)
    ]


def _of_shape() -> list[Fault]:
    found = []
    for device in DEVICES:
        solid = device != "anatomical-model"  # a bone is as thin as it is: a wall refuses no model
        found += [
            Fault("unit: inch read as mm", device, "placement", "largest side beyond the room", misbuilt.scaled(25.4)),
            Fault("inside out", device, "mesh", ": volume", misbuilt.inside_out()),
        ]
        if solid:
            found += [Fault("thin fin, 0.3 mm", device, "walls", "99.9 %", misbuilt.fin(0.3, place), place) for place in range(3)]
            found.append(Fault("fin of 1.05 mm", device, "walls", "99.9 %", misbuilt.fin(1.05, 0), sound=True))
    for device in ("pedicle-guide", "osteotomy-guide", "anatomical-model"):
        found.append(Fault("unit: cm read as mm", device, "envelope", "inside the design envelope", misbuilt.scaled(0.1)))
    for device in GUIDES:
        found += [
            Fault("bar out of the envelope", device, "envelope", "longest", misbuilt.bar(230.0, 0)),
            Fault("mirrored part", device, "bore", "axis", misbuilt.mirrored()),
            Fault("part moved by 0.5 mm", device, "contact", "95 % of the contact", misbuilt.moved(_SIDEWAYS, 0.5)),
            *(Fault("lost face label", device, "faces", "least area", misbuilt.lost_label(label)) for label in
              ("contact", "label", BORES[device][0][0])),
        ]  # fmt: skip
    across, along, out = hole_axes().T
    inward = 0.15 * across - out
    found += [
        Fault("wall of 0.3 mm", "cranial-implant", "walls", "99.9 %", misbuilt.dented(0.3, place, side_mm=4.0), place)
        for place in range(4)
    ]
    found += [
        Fault("wall of 0.8 mm", "cranial-implant", "thickness", "thinnest", misbuilt.thinned(0.8, place), place)
        for place in range(2)
    ]
    found += [
        Fault("wall of 1.1 mm", "cranial-implant", "thickness", "thinnest", misbuilt.thinned(1.1, 0), sound=True),
        Fault("part sunk by 3 mm", "cranial-implant", "insertion", "least distance on the way", misbuilt.moved(inward, 3.0)),
        Fault("part moved by 2 mm", "anatomical-model", "deviation", "95th", misbuilt.moved(np.array([1.0, 1.0, 0.0]), 2.0)),
        Fault("part moved by 0.8 mm", "cranial-implant", "overlap", "volume shared", misbuilt.moved(across, 0.8)),
        Fault("part moved by 0.3 mm", "cranial-implant", "border gap", "least minus", misbuilt.moved(along, 0.3)),
        Fault("mirrored part", "cranial-implant", "border gap", "95th", misbuilt.mirrored()),
        Fault("part moved by 0.05 mm", "cranial-implant", "border gap", "least minus", misbuilt.moved(across, 0.05), 0, True),
    ]  # fmt: skip
    return found


def _of_bores() -> list[Fault]:
    found = []
    for device in GUIDES:
        for place, (label, axis) in enumerate(BORES[device]):
            off, turned, wide = f"{label}, axis off", f"{label}, axis against", f"{label}, diameter"
            found += [
                Fault("sleeve off by 0.5 mm", device, "bore", off, misguided.bore_moved(label, axis, 0.5), place),
                Fault("sleeve off by 0.04 mm", device, "bore", off, misguided.bore_moved(label, axis, 0.04), place, sound=True),
                Fault("sleeve tilted by 0.5 deg", device, "bore", turned, misguided.bore_tilted(label, axis, 0.5), place),
                Fault("sleeve tilted by 0.09 deg", device, "bore", turned, misguided.bore_tilted(label, axis, 0.09), place, True),
                Fault("bore shrunk by 0.1 mm", device, "bore", wide, misguided.bore_resized(label, axis, -0.1), place),
                Fault("bore widened by 0.1 mm", device, "bore", wide, misguided.bore_resized(label, axis, 0.1), place),
                Fault("bore widened by 0.015 mm", device, "bore", wide, misguided.bore_resized(label, axis, 0.015), place, True),
                Fault("bore filled", device, "bore", f"{label}, open", misguided.bore_plugged(label, axis, 1.0), place),
            ]  # fmt: skip
    return found


def _of_slots() -> list[Fault]:
    one, label, plane = "osteotomy-guide", "slot-1", "cut-1"
    return [
        Fault("slot off by 0.1 mm", one, "slot", "middle off", misguided.slot_moved(label, plane, 0.1)),
        Fault("slot off by 0.04 mm", one, "slot", "middle off", misguided.slot_moved(label, plane, 0.04), sound=True),
        Fault("slot turned by 0.3 deg", one, "slot", "against the plan", misguided.slot_turned(label, plane, 0.3)),
        Fault("slot turned by 0.08 deg", one, "slot", "against the plan", misguided.slot_turned(label, plane, 0.08), sound=True),
        Fault("slot narrowed by 0.1 mm", one, "slot", "width minus", misguided.slot_resized(label, plane, -0.1)),
        Fault("slot widened by 0.1 mm", one, "slot", "width minus", misguided.slot_resized(label, plane, 0.1)),
        Fault("slot widened by 0.015 mm", one, "slot", "width minus", misguided.slot_resized(label, plane, 0.015), sound=True),
        Fault("slot filled over 3 mm", one, "slot", "least depth", misguided.slot_filled(label, plane, 3.0)),
    ]


def _of_contact() -> list[Fault]:
    found = []
    for device in GUIDES:
        for place in range(4):
            found += [
                Fault(
                    "contact lifted by 0.3 mm", device, "contact", "largest in it", misguided.contact_dented(0.3, place), place
                ),
                Fault("contact dug in by 0.3 mm", device, "clearance", "nearest", misguided.contact_dented(-0.3, place), place),
            ]
        found += [
            Fault("contact lifted by 0.08 mm", device, "contact", "largest in it", misguided.contact_dented(0.08, 0), sound=True),
            Fault("undercut", device, "way-out", "area below bone", misguided.undercut(WAYS_OUT[device], 0)),
        ]
    return found
