"""A bone that lies otherwise in the scanner gives the same surface, a head the same implant."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from batchone.design.families import load_families
from batchone.design.make import design, plan
from batchone.design.nearest import nearest_mm
from batchone.pipeline.order import Order, parse_order
from batchone.pipeline.values import Anatomy, FloatArray, Mesh, Scan, SeriesRecord, moved_points
from batchone.samples.craniectomy import Cutter
from batchone.samples.demo import DEFECT
from batchone.samples.head import BLUR_FWHM_MM, Phantom, head_phantom
from batchone.samples.long_bone import BonePhantom, bone_surface, long_bone
from batchone.samples.scanner import Grid
from batchone.samples.solids import share
from batchone.segment.make import segment
from batchone.slicer.profiles import load_process

LIMIT_MM = 0.25
TISSUE_HU, NOISE_HU = 38.0, 12.0


def pose() -> FloatArray:
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", [5.0, -4.0, 6.0], degrees=True).as_matrix()
    matrix[:3, 3] = [3.3, -2.7, 1.9]
    return matrix


def order() -> Order:
    plain = {"engrave": False, "perforation_pitch_mm": 0.0, "fixation_holes": 0}
    due = dt.datetime(2026, 11, 24, 8, tzinfo=dt.UTC)
    data = {"case": "rigid", "device": "cranial-implant", "side": "left", "process": "ti64-lpbf", "machine": "sim-01", "due": due}
    return parse_order({**data, "parameters": plain}, {name: family.parameters for name, family in load_families().items()})


def moved(cutter: Cutter, motion: FloatArray) -> Cutter:
    turn = motion[:3, :3]
    centre = moved_points(motion, cutter.centre_mm[None])[0]
    return replace(cutter, centre_mm=centre, axis=turn @ cutter.axis, across=cutter.across @ turn.T)


def with_hole(phantom: Phantom, cutter: Cutter) -> Scan:
    """The hole is the same in the head in every pose: it depends on nothing that was seen in the scan."""
    hu = phantom.hu.astype(np.float64)
    points = Grid(phantom.affine, hu.shape).points_mm(tuple(slice(0, count) for count in hu.shape))
    wall_mm = cutter.wall_distance_mm(points)
    depth_mm = np.full(len(wall_mm), np.inf)
    near = wall_mm < 4.0
    depth_mm[near] = cutter.depth_mm(points[near])
    blur_mm = np.full(len(wall_mm), BLUR_FWHM_MM / 2.355)
    gone = np.where((depth_mm > -3.5) & (depth_mm < 25.0), share(wall_mm, blur_mm), 0.0).reshape(hu.shape)
    noise = np.random.default_rng(5).normal(0.0, NOISE_HU, hu.shape)
    cut = np.rint(hu + gone * (TISSUE_HU + noise - hu)).astype(np.int16)
    record = SeriesRecord("CT", "", "", "", "HFS", len(cut), 1.0, 1.0, (0.8, 0.8), 0.0, "", "0" * 64)
    return Scan(cut, phantom.affine, record)


def implant(anatomy: Anatomy) -> Mesh:
    return design(anatomy, plan(anatomy, order()), order(), load_process("ti64-lpbf")).parts[0].mesh


@pytest.mark.slow
def test_a_head_turned_before_scanning_gets_the_same_implant() -> None:
    plain = head_phantom(defect=DEFECT)
    assert plain.craniectomy is not None
    made = []
    for motion in (np.eye(4), pose()):
        scan = with_hole(head_phantom(pose=motion), moved(plain.craniectomy.cutter, motion))
        made.append(implant(segment(scan, order())).moved(np.linalg.inv(motion)))
    there, back = (np.abs(nearest_mm(one.vertices_mm, other)) for one, other in (made, reversed(made)))
    assert np.median(there) < 0.05
    assert max(there.max(), back.max()) <= LIMIT_MM, f"{there.max():.3f} and {back.max():.3f} mm"


def bone(phantom: BonePhantom) -> Mesh:
    record = SeriesRecord("CT", "", "", "", "HFS", len(phantom.hu), 1.0, 1.0, (0.8, 0.8), 0.0, "", "0" * 64)
    return segment(Scan(phantom.hu, phantom.affine, record), model_order()).bones[0].mesh


def model_order() -> Order:
    due = dt.datetime(2026, 11, 24, 8, tzinfo=dt.UTC)
    data = {"case": "rigid", "device": "anatomical-model", "side": "left", "process": "pa12-sls", "machine": "sim-01", "due": due}
    return parse_order({**data, "target": {"bones": ["tibia"]}}, {name: one.parameters for name, one in load_families().items()})


def flipped(phantom: BonePhantom) -> BonePhantom:
    """The same scan stored from the other end, rows from below: the frame stays right-handed."""
    hu = np.ascontiguousarray(phantom.hu[::-1, ::-1])
    affine = phantom.affine.copy()
    affine[:3, 3] += affine[:3, 1] * (hu.shape[1] - 1) + affine[:3, 2] * (hu.shape[0] - 1)
    affine[:3, 1:3] *= -1.0
    return replace(phantom, hu=hu, affine=affine)


SURFACE = bone_surface(60.0)
RETAKEN = {
    "turned and shifted": (lambda: long_bone(SURFACE.moved(pose())), pose()),
    "stored the other way round": (lambda: flipped(long_bone(SURFACE)), np.eye(4)),
    "slices 1.0 mm, pixels 0.6 mm": (lambda: long_bone(SURFACE, spacing_mm=(1.0, 0.6, 0.6)), np.eye(4)),
    "voxels of 0.4 mm": (lambda: long_bone(SURFACE, spacing_mm=(0.4, 0.4, 0.4)), np.eye(4)),
    "other noise": (lambda: long_bone(SURFACE, seed=2), np.eye(4)),
}


@pytest.mark.parametrize("name", RETAKEN)
def test_a_bone_scanned_otherwise_gives_the_same_surface(name: str) -> None:
    scanned, motion = RETAKEN[name]
    plain, again = bone(long_bone(SURFACE)), bone(scanned()).moved(np.linalg.inv(motion))
    there, back = nearest_mm(again.vertices_mm, plain), nearest_mm(plain.vertices_mm, again)
    assert max(there.max(), back.max()) <= LIMIT_MM, f"{there.max():.3f} and {back.max():.3f} mm"
