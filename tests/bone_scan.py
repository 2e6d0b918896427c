"""A small scan of three bones for the tests of labels: two vertebral bodies a voxel apart, and a femur on the left."""

from __future__ import annotations

import datetime as dt

import numpy as np

from batchone.pipeline.order import Order, Target
from batchone.pipeline.values import FloatArray, HuArray, Scan, SeriesRecord, Side
from batchone.segment.label_map import LabelArray

STEP_MM = (1.0, 1.0, 1.0)
NAMES = ("l1", "l2", "femur left")
RECORD = SeriesRecord("CT", "", "", "", "HFS", 1, 1.0, 1.0, (1.0, 1.0), 0.0, "", "5" * 64)


def bones_scan(*, gap_hu: float = 420.0) -> tuple[Scan, LabelArray]:
    """The scan, and its true labels 1, 2, 3 in the order of ``NAMES``. ``gap_hu`` is the value in the joint of one voxel."""
    z, y, x = np.meshgrid(*(np.arange(a, b) + 0.5 for a, b in ((0, 90), (-45, 45), (-60, 60))), indexing="ij")
    body = np.hypot(x / 56.0, y / 42.0) < 1.0
    inside = np.abs(np.hypot(x, y)) < 16.0
    truth = np.zeros(x.shape, dtype=np.uint8)
    truth[inside & (z > 46) & (z < 70)] = 1
    truth[inside & (z > 20) & (z < 45)] = 2
    truth[(np.hypot(x - 38.0, y) < 10.0) & (z > 8) & (z < 80)] = 3
    hu = np.where(body, 40.0, -1000.0)
    hu[truth > 0] = 900.0
    hu[inside & (z > 45) & (z < 46)] = gap_hu
    hu += np.random.default_rng(3).normal(0.0, 12.0, hu.shape)
    return scan_of(np.rint(hu).astype(np.int16)), truth


def scan_of(hu: HuArray, affine: FloatArray | None = None, *, digest: str = RECORD.sources_digest) -> Scan:
    """A scan of these values, centred sideways."""
    from dataclasses import replace

    if affine is None:
        affine = np.eye(4)
        affine[:3, 3] = (-59.5, -44.5, 0.5)
    hu.setflags(write=False)
    return Scan(hu, affine, replace(RECORD, sources_digest=digest))


def order(*bones: str, side: Side = "left", confirmed_by: str | None = None) -> Order:
    due = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)
    target = Target(bones=bones, level_confirmed_by=confirmed_by)
    return Order(case="t-1", device="anatomical-model", side=side, process="pa12-sls", machine="sim-01", due=due, target=target)
