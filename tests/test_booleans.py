"""Labelled solids: identities of volume, labels that survive, results that never come back empty."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from batchone.design.booleans import (
    Solid,
    box_solid,
    difference,
    face_areas,
    gathered,
    intersection,
    moved,
    pieces,
    simplify,
    solid_from_labelled_mesh,
    solid_from_mesh,
    to_mesh,
    to_part,
    trimmed,
    union,
    volume_mm3,
)
from batchone.pipeline.errors import DesignError
from batchone.pipeline.values import FloatArray, FunctionalFace, Mesh


def box(low: tuple[float, float, float], high: tuple[float, float, float], label: str) -> Solid:
    return box_solid(np.array(low), np.array(high), label)


def ball(
    radius_mm: float, *, rings: int = 24, label: str = "ball", centre_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> Solid:
    return solid_from_mesh(ball_mesh(radius_mm, rings=rings, centre_mm=centre_mm), label)


def ball_mesh(radius_mm: float, *, rings: int = 24, centre_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Mesh:
    """A closed globe with two poles, counter-clockwise seen from outside."""
    polar = np.pi * np.arange(1, rings) / rings
    around = 2.0 * np.pi * np.arange(2 * rings) / (2 * rings)
    ring = np.stack(
        [
            np.outer(np.sin(polar), np.cos(around)),
            np.outer(np.sin(polar), np.sin(around)),
            np.repeat(np.cos(polar)[:, None], 2 * rings, 1),
        ],
        -1,
    )
    points = np.vstack([[0.0, 0.0, 1.0], ring.reshape(-1, 3), [0.0, 0.0, -1.0]]) * radius_mm + centre_mm
    columns = 2 * rings
    index = 1 + np.arange((rings - 1) * columns).reshape(rings - 1, columns)
    right = np.roll(index, -1, axis=1)
    faces = [np.column_stack([np.zeros(columns, dtype=int), index[0], right[0]])]
    faces += [np.column_stack([index[:-1].ravel(), index[1:].ravel(), right[:-1].ravel()])]
    faces += [np.column_stack([right[:-1].ravel(), index[1:].ravel(), right[1:].ravel()])]
    faces += [np.column_stack([index[-1], np.full(columns, len(points) - 1), right[-1]])]
    return Mesh(points, np.vstack(faces).astype(np.int32))


def turned(angle_deg: float, shift_mm: tuple[float, float, float] = (3.0, -7.0, 11.0)) -> FloatArray:
    angle = np.deg2rad(angle_deg)
    pose = np.eye(4)
    pose[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    pose[:3, 3] = shift_mm
    return pose


def areas(solid: Solid) -> dict[str, float]:
    return face_areas(to_part(solid, "part"))


def drilled() -> Solid:
    plate = box((0, 0, 0), (40, 30, 4), "plate")
    holes = [box((x, 10, -1), (x + 2, 12, 5), f"hole-{x}") for x in (5, 15, 25)]
    boss = box((30, 20, 2), (36, 26, 9), "boss")
    return difference(union(plate, boss, what="boss"), *holes, what="holes")


def test_the_volumes_of_union_difference_and_intersection_are_exact_on_boxes() -> None:
    a, b = box((0, 0, 0), (10, 10, 10), "a"), box((5, 5, 5), (15, 15, 15), "b")
    assert volume_mm3(union(a, b, what="u")) == pytest.approx(1875.0, abs=1e-9)
    assert volume_mm3(difference(a, b, what="d")) == pytest.approx(875.0, abs=1e-9)
    assert volume_mm3(intersection(a, b, what="i")) == pytest.approx(125.0, abs=1e-9)


def test_each_label_keeps_its_area_through_union_and_difference() -> None:
    found = areas(drilled())
    assert found["hole-5"] == pytest.approx(4 * 2 * 4, rel=0.01)
    assert found["hole-15"] == pytest.approx(32.0, rel=0.01)
    assert found["boss"] == pytest.approx(4 * 6 * 5 + 36, rel=0.01)
    assert found["plate"] == pytest.approx(2 * 1200 + 2 * 4 * 70 - 36 - 3 * 2 * 4, rel=0.01)


def test_labels_survive_rotation_simplify_and_decompose() -> None:
    solid = union(drilled(), box((100, 0, 0), (101, 1, 1), "crumb"), what="crumb beside")
    before = areas(solid)
    after = areas(simplify(moved(solid, turned(37.0)), 0.05))
    assert after == pytest.approx(before, rel=0.01)
    large, small = pieces(solid)
    assert set(to_mesh(small)[2]) == {"crumb"}
    assert "crumb" not in to_mesh(large)[2]
    assert areas(gathered((large, small))) == pytest.approx(before, rel=1e-9)


def test_labels_within_one_mesh_survive_simplify_on_a_curved_surface() -> None:
    mesh = ball_mesh(20.0, rings=60)
    north = (mesh.vertices_mm[mesh.faces].mean(axis=1)[:, 2] > 0.0).astype(np.int16)
    solid = solid_from_labelled_mesh(mesh, ("south", "north"), north)
    fewer = simplify(solid, 0.1)
    assert len(to_mesh(fewer)[0].faces) < 0.6 * len(mesh.faces)
    assert areas(fewer) == pytest.approx(areas(solid), rel=0.01)


def test_two_copies_of_one_solid_keep_their_label() -> None:
    pin = box((0, 0, 0), (1, 1, 5), "pin")
    both = union(pin, moved(pin, turned(10.0)), what="two pins")
    assert areas(both)["pin"] == pytest.approx(2 * 22.0, rel=1e-6)


def test_a_cut_by_a_plane_carries_its_own_label() -> None:
    half = trimmed(ball(10.0), origin_mm=np.array([0.0, 0.0, 1.0]), normal=np.array([0.0, 0.0, 1.0]), label="cut", what="cut")
    assert areas(half)["cut"] == pytest.approx(np.pi * 99.0, rel=0.01)
    assert to_mesh(half)[0].vertices_mm[:, 2].min() == pytest.approx(1.0, abs=1e-9)


def test_a_plane_that_passes_beside_the_solid_changes_nothing_or_is_refused() -> None:
    solid = ball(10.0)
    up = np.array([0.0, 0.0, 1.0])
    assert trimmed(solid, origin_mm=np.array([0.0, 0.0, -11.0]), normal=up, label="cut", what="cut") is solid
    with pytest.raises(DesignError, match="leaves nothing"):
        trimmed(solid, origin_mm=np.array([0.0, 0.0, 11.0]), normal=up, label="cut", what="cut")


def test_a_tool_that_misses_is_refused_with_the_volumes() -> None:
    with pytest.raises(DesignError, match=r"engraving: .*1\.000 mm3 remove .* of 1000\.000 mm3"):
        difference(box((0, 0, 0), (10, 10, 10), "a"), box((20, 0, 0), (21, 1, 1), "b"), what="engraving")


def test_a_tool_that_only_touches_a_face_is_refused() -> None:
    with pytest.raises(DesignError, match="remove"):
        difference(box((0, 0, 0), (10, 10, 10), "a"), box((10, 0, 0), (11, 1, 1), "b"), what="engraving")


def test_a_tool_that_swallows_the_body_is_refused() -> None:
    with pytest.raises(DesignError, match="removes all of"):
        difference(box((0, 0, 0), (10, 10, 10), "a"), box((-1, -1, -1), (11, 11, 11), "b"), what="cut")


def test_solids_without_common_volume_have_no_intersection() -> None:
    with pytest.raises(DesignError, match="empty"):
        intersection(box((0, 0, 0), (1, 1, 1), "a"), box((2, 0, 0), (3, 1, 1), "b"), what="common")


def test_an_open_an_inverted_and_an_empty_mesh_are_refused() -> None:
    mesh = ball_mesh(5.0)
    for broken in (
        Mesh(mesh.vertices_mm, mesh.faces[1:]),
        Mesh(mesh.vertices_mm, mesh.faces[:, ::-1]),
        Mesh(np.empty((0, 3)), np.empty((0, 3), dtype=np.int32)),
    ):
        with pytest.raises(DesignError, match="solid 'bone'"):
            solid_from_mesh(broken, "bone")


def test_a_mirroring_pose_is_refused() -> None:
    with pytest.raises(ValueError, match="mirroring"):
        moved(ball(1.0), np.diag([-1.0, 1.0, 1.0, 1.0]))


def test_a_lost_functional_face_is_refused() -> None:
    solid = difference(drilled(), box((4, 9, -1), (8, 13, 6), "slot"), what="slot over the first hole")
    face = FunctionalFace("hole-5", "screw", 0.1)
    with pytest.raises(DesignError, match="hole-5"):
        to_part(solid, "part", functional_faces=(face,))
    assert to_part(solid, "part", functional_faces=(FunctionalFace("hole-15", "screw", 0.1),)).labels


def test_a_part_is_placed_by_its_pose() -> None:
    pose = turned(90.0)
    part = to_part(box((0, 0, 0), (1, 2, 3), "a"), "part", pose=pose)
    assert part.mesh.vertices_mm.min(axis=0) == pytest.approx([1.0, -7.0, 11.0], abs=1e-12)
    assert part.mesh.vertices_mm.max(axis=0) == pytest.approx([3.0, -6.0, 14.0], abs=1e-12)


def test_a_void_comes_as_a_piece_of_negative_volume() -> None:
    hollow = difference(ball(10.0), ball(4.0), what="void")
    outer, void = pieces(hollow)
    assert volume_mm3(outer) == pytest.approx(volume_mm3(ball(10.0)), rel=1e-9)
    assert volume_mm3(void) == pytest.approx(-volume_mm3(ball(4.0)), rel=1e-9)


def fingerprint() -> str:
    solid = simplify(
        difference(union(drilled(), ball(6.0, centre_mm=(20, 15, 4)), what="u"), ball(3.0, centre_mm=(20, 15, 9)), what="d"), 0.02
    )
    mesh, face_labels, labels = to_mesh(solid)
    digest = hashlib.sha256(mesh.vertices_mm.tobytes() + mesh.faces.tobytes() + face_labels.tobytes())
    return digest.hexdigest() + ",".join(labels)


def test_the_same_booleans_give_the_same_bytes_again_and_on_one_core() -> None:
    first = fingerprint()
    assert fingerprint() == first
    code = (
        "import os, importlib.util\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        f"spec = importlib.util.spec_from_file_location('booleans_under_test', {__file__!r})\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "print(module.fingerprint())\n"
    )
    there = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=dict(os.environ))
    assert there.stdout.strip() == first
