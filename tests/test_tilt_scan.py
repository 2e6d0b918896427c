"""One skull, scanned straight and with a tilted gantry, comes out as the same bone."""

from __future__ import annotations

import datetime as dt
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from batchone.design.families import load_families
from batchone.pipeline.intake.make import intake
from batchone.pipeline.order import Order, parse_order
from batchone.pipeline.values import FloatArray, Mesh, Scan
from batchone.samples.two_scans import compared, registered, seen_as
from batchone.segment.make import segment

DATA = os.environ.get("BATCHONE_TEST_DATA", "")
pytestmark = [pytest.mark.slow, pytest.mark.data, pytest.mark.skipif(not DATA, reason="BATCHONE_TEST_DATA is not set")]
ABOVE_FLOOR_MM = 0.15
SHEAR_MM = 0.2  # per 100 mm along the table


def order() -> Order:
    data = {"case": "tilt", "device": "anatomical-model", "side": "midline", "process": "pa12-sls", "machine": "sim-01"}
    due = dt.datetime(2026, 11, 24, 8, tzinfo=dt.UTC)
    return parse_order({**data, "due": due}, {name: family.parameters for name, family in load_families().items()})


def read(name: str) -> Scan:
    return intake(Path(DATA) / name, order(), load_families()["anatomical-model"].limits.protocol)[0]


def skull(scan: Scan) -> Mesh:
    return segment(scan, order()).bones[0].mesh


@pytest.fixture(scope="module")
def pair() -> tuple[Scan, Scan, Mesh, Mesh, FloatArray]:
    straight, tilted = read("head-phantom.zip"), read("head-phantom-tilted.zip")
    truth, other = skull(straight), skull(tilted)
    return straight, tilted, truth, other, registered(other.vertices_mm, truth)


def test_the_tilted_scan_gives_the_skull_of_the_straight_one(pair: tuple[Scan, Scan, Mesh, Mesh, FloatArray]) -> None:
    straight, tilted, truth, other, motion = pair
    found = compared(other.moved(motion), truth, (straight, tilted), motion)
    floor = compared(skull(seen_as(straight, tilted, motion)), truth, (straight, tilted), motion)
    assert found.median_mm <= floor.median_mm + ABOVE_FLOOR_MM
    assert found.p95_mm <= floor.p95_mm + ABOVE_FLOOR_MM
    assert found.slope_mm < SHEAR_MM


def test_a_shear_left_in_would_be_seen(pair: tuple[Scan, Scan, Mesh, Mesh, FloatArray]) -> None:
    straight, tilted, truth, _, motion = pair
    shear = np.eye(4)
    shear[1, 2] = 2.5 * SHEAR_MM / 100.0  # the registration turns about half of it away
    leaning = Mesh(truth.vertices_mm @ shear[:3, :3].T, truth.faces)
    assert compared(leaning, truth, (straight, tilted), motion).slope_mm > SHEAR_MM


def test_a_skull_is_its_own_likeness(pair: tuple[Scan, Scan, Mesh, Mesh, FloatArray]) -> None:
    straight, _, truth, _, _ = pair
    same = compared(truth, truth, (straight, replace(straight)), np.eye(4))
    assert max(same.median_mm, same.p95_mm, same.slope_mm) < 1e-3
