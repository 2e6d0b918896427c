"""The coloured pictures of how sure the bone surface is."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from batchone.pipeline.job.bands import COLOURS, UNKNOWN
from batchone.pipeline.job.sureness import STEPS_MM, sureness_pictures
from batchone.pipeline.values import Anatomy, Bone, Device, FieldOfView, FloatArray, Mesh, Part
from batchone.samples.long_bone import bone_surface

MESH = bone_surface(80.0, rings=60, spokes=48)


def anatomy(sigma_mm: FloatArray) -> Anatomy:
    bone = Bone("tibia", "left", True, 1.0, 1.0, MESH, np.eye(4), sigma_mm)
    return Anatomy((bone,), (), FieldOfView(np.eye(4), (10, 10, 10)))


def device(x_mm: float, y_mm: float) -> Device:
    mesh = Mesh(0.1 * MESH.vertices_mm + [x_mm, y_mm, 0.0], MESH.faces)
    return Device("test", (Part("part", mesh, np.zeros(len(mesh.faces), dtype=np.int16), ("body",)),))


def middle_colour(png: bytes) -> tuple[int, int, int]:
    image = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    red, green, blue = (int(value) for value in image[345:355, 445:455].reshape(-1, 3).mean(axis=0))
    return red, green, blue


@pytest.mark.parametrize("band", range(len(COLOURS)))
def test_the_bone_has_the_colour_that_the_scale_gives_its_figure(band: int) -> None:
    ends = (0.0, *STEPS_MM, 1.0)
    sigma_mm = np.full(len(MESH.vertices_mm), 0.5 * (ends[band] + ends[band + 1]))
    shown = np.array(middle_colour(sureness_pictures(anatomy(sigma_mm), device(0.0, -30.0))[0].png)) / 255.0
    off = [np.abs(shown - np.array(colour)).sum() for colour in (*COLOURS, UNKNOWN)]
    assert int(np.argmin(off)) == band


@pytest.mark.parametrize(("x_mm", "y_mm", "side"), [(0.0, -30.0, "front"), (0.0, 30.0, "back"), (30.0, 5.0, "left")])
def test_the_first_picture_is_from_the_side_of_the_device(x_mm: float, y_mm: float, side: str) -> None:
    pictures = sureness_pictures(anatomy(np.full(len(MESH.vertices_mm), 0.05)), device(x_mm, y_mm))
    assert pictures[0].name == f"sureness-{side}.png"
    assert len(pictures) == 2
    assert "standard deviation" in pictures[0].caption


def test_the_same_bone_gives_the_same_bytes_and_little_of_them() -> None:
    sigma_mm = np.linspace(0.0, 0.6, len(MESH.vertices_mm))
    first, second = (sureness_pictures(anatomy(sigma_mm), device(0.0, 30.0)) for _ in range(2))
    assert [p.png for p in first] == [p.png for p in second]
    assert all(len(p.png) < 400_000 for p in first)


def test_a_bone_without_figures_is_grey_and_no_bone_is_no_picture() -> None:
    empty = anatomy(np.empty(0))
    shown = np.array(middle_colour(sureness_pictures(empty, device(0.0, -30.0))[0].png)) / 255.0
    assert np.ptp(shown) < 0.05
    assert sureness_pictures(replace(empty, bones=()), device(0.0, 0.0)) == ()
