"""A case of which every place is known: a letter R on the patient's front, markers off all planes, an oblique scan."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from batchone.design.guide.body import guide_pose
from batchone.design.seating.make import score
from batchone.design.seating.seat_map import seat_map
from batchone.pipeline import codec
from batchone.pipeline.store import CaseFolder
from batchone.pipeline.values import (
    Anatomy,
    Axis,
    Bone,
    CheckedDevice,
    Curve,
    Device,
    FieldOfView,
    FloatArray,
    FunctionalFace,
    Landmark,
    Mesh,
    Part,
    Plan,
    Plane,
    Scan,
    SeriesRecord,
    Vector,
    judge,
    moved_points,
)

LETTER = ("11110", "10001", "10001", "11110", "10100", "10010", "10001")
CELL_MM = 3.0
LETTER_AT = np.array([-8.0, -16.0, 10.0])  # its corner at the patient's right, front and top
LETTER_DEEP_MM = 4.0
AIR_HU, BONE_HU, MARK_HU = -1000, 900, 1500
BONE_LOW, BONE_HIGH = np.array([-30.0, -10.0, -25.0]), np.array([20.0, 30.0, 25.0])
GAP_MM, PLATE_MM = 0.5, 2.0  # between bone and plate, and of the plate
BORE = Axis("trajectory-1", (-18.0, -10.0, -12.0), (0.0, 1.0, 0.0), 20.0)
BORE_MM = 2.5
MARKS: tuple[Vector, ...] = ((30.0, -18.0, 22.0), (-36.0, 8.0, -28.0), (9.0, 38.0, 14.0))
FINDING: Vector = (-12.5, -13.0, 4.5)
SPACING_MM = np.array([1.0, 1.0, 1.25])
CASE = "viewer-0001"


def box(low: FloatArray, high: FloatArray) -> Mesh:
    corners = np.array([[x, y, z] for z in (0, 1) for y in (0, 1) for x in (0, 1)], dtype=np.float64)
    faces = [
        [0, 2, 1],
        [1, 2, 3],
        [4, 5, 6],
        [5, 7, 6],
        [0, 1, 4],
        [1, 5, 4],
        [2, 6, 3],
        [3, 6, 7],
        [0, 4, 2],
        [2, 4, 6],
        [1, 3, 5],
        [3, 7, 5],
    ]
    return Mesh(low + corners * (high - low), np.array(faces, dtype=np.int32))


def joined(meshes: list[Mesh]) -> Mesh:
    first = np.cumsum([0, *(len(mesh.vertices_mm) for mesh in meshes[:-1])])
    faces = np.concatenate([mesh.faces + start for mesh, start in zip(meshes, first, strict=True)])
    return Mesh(np.concatenate([mesh.vertices_mm for mesh in meshes]), faces.astype(np.int32))


def letter_cells() -> list[tuple[FloatArray, FloatArray]]:
    """The boxes of the letter: it reads right for whoever stands before the patient."""
    found = []
    for row, line in enumerate(LETTER):
        for column, on in enumerate(line):
            if on == "1":
                low = LETTER_AT + np.array([column, 0.0, -row - 1.0]) * CELL_MM
                found.append((low, low + np.array([CELL_MM, LETTER_DEEP_MM, CELL_MM])))
    return found


def bore_wall(sides: int = 48) -> Mesh:
    turn = np.linspace(0.0, 2.0 * np.pi, sides, endpoint=False)
    ring = BORE_MM / 2.0 * np.stack([np.cos(turn), np.zeros(sides), np.sin(turn)], axis=1)
    top = np.array(BORE.origin_mm) - np.array([0.0, GAP_MM + PLATE_MM, 0.0])
    points = np.concatenate([ring + top, ring + top + np.array([0.0, PLATE_MM, 0.0])])
    here, beside = np.arange(sides), (np.arange(sides) + 1) % sides
    quads = np.stack([here, beside, beside + sides, here, beside + sides, here + sides], axis=1)
    return Mesh(points, quads.reshape(-1, 3).astype(np.int32))


@cache
def scan() -> Scan:
    """Oblique to the patient: turned by 12 degrees about z, then by 5 about x."""
    a, b = np.radians([12.0, 5.0])
    about_z = np.array([[np.cos(a), -np.sin(a), 0.0], [np.sin(a), np.cos(a), 0.0], [0.0, 0.0, 1.0]])
    about_x = np.array([[1.0, 0.0, 0.0], [0.0, np.cos(b), -np.sin(b)], [0.0, np.sin(b), np.cos(b)]])
    affine = np.eye(4)
    affine[:3, :3] = about_x @ about_z @ np.diag(SPACING_MM)
    shape = (84, 106, 112)  # slices, rows, columns
    affine[:3, 3] = np.array([-2.0, 6.0, -2.0]) - affine[:3, :3] @ ((np.array(shape[::-1]) - 1) / 2.0)
    z, y, x = np.meshgrid(*(np.arange(n, dtype=np.float64) for n in shape), indexing="ij")
    places = moved_points(affine, np.stack([x, y, z], axis=3).reshape(-1, 3))
    hu = np.full(len(places), AIR_HU, dtype=np.int16)
    hu[((places >= BONE_LOW) & (places <= BONE_HIGH)).all(axis=1)] = BONE_HU
    for low, high in letter_cells():
        hu[((places >= low) & (places <= high)).all(axis=1)] = MARK_HU
    for mark in MARKS:
        hu[np.linalg.norm(places - np.array(mark), axis=1) <= 2.5] = MARK_HU
    record = SeriesRecord("CT", "", "", "", "HFS", shape[0], 1.25, 1.25, (1.0, 1.0), 0.0, "", "0" * 64)
    return Scan(hu.reshape(shape), affine, record)


def parts() -> tuple[Part, ...]:
    letter = joined([box(low, high) for low, high in letter_cells()])
    low = np.array([-26.0, BONE_LOW[1] - GAP_MM - PLATE_MM, -20.0])
    plate, bore = box(low, low + np.array([16.0, PLATE_MM, 16.0])), bore_wall()
    labels = np.concatenate([np.zeros(len(plate.faces)), np.ones(len(bore.faces))]).astype(np.int16)
    faces = (FunctionalFace("contact", "sits on the bone", 0.2), FunctionalFace("bore-1", "leads the drill", 0.2))
    return (
        Part("letter", letter, np.zeros(len(letter.faces), dtype=np.int16), ("outside",)),
        Part("plate", joined([plate, bore]), labels, ("contact", "bore-1"), faces),
    )


def write_case(cases: Path, *, findings: int = 1) -> CaseFolder:
    """The case as its stages leave it, up to a checked device."""
    case = CaseFolder(cases / CASE)
    made = scan()
    bone = box(BONE_LOW, BONE_HIGH)
    sigma = np.linspace(0.0, 0.35, 8)
    skull = Bone("tibia", "left", True, 1.0, 100_000.0, bone, np.eye(4), sigma)
    landmarks = tuple(Landmark(f"mark-{n}", mark, 0.1) for n, mark in enumerate(MARKS, start=1))
    anatomy = Anatomy((skull,), landmarks, FieldOfView(made.affine, made.hu.shape))
    rim = np.array([[x, BONE_LOW[1], z] for x, z in ((-20.0, -20.0), (10.0, -20.0), (10.0, 20.0))])
    plan = Plan(
        "pedicle-guide", False, "left", curves=(Curve("rim", rim, True),),
        axes=(BORE, Axis("insertion", FINDING, (0.0, -1.0, 0.0))),
        planes=(Plane("cut-1", (0.0, 0.0, 5.0), (0.0, 0.6, 0.8)),),
    )  # fmt: skip
    judged = judge("walls", "letter: thinnest wall", 0.7, "mm", low=1.0, where_mm=FINDING)
    told = (judged, judge("mesh", "letter: open edges", 0.0, "", high=0.0), *[replace(judged, value=0.6)] * (findings - 1))
    values: dict[str, Any] = {"intake": made, "segment": anatomy, "plan": plan}
    plate = parts()[1]
    seat = seat_map(plate.name, score(plate, skull, guide_pose(plan.axis("insertion"), skull), starts=50))
    values["check"] = CheckedDevice(Device("pedicle-guide", parts()), told, (seat,))
    for stage, value in values.items():

        def write(into: Path, value: Any = value) -> dict[str, Any]:
            return {"seconds": 1.0, "value_digest": codec.save(value, into), "findings": {"$tuple": []}}

        case.publish(stage, write)
    return case
