"""Pictures of the bed: where things lie, that a fault is seen where its mask says, and nowhere else."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
import test_hatch as plates
from PIL import Image
from scipy import ndimage
from test_twin import MACHINE, TITANIUM, folder

from batchone.factory.twin.camera import SIDE_PX, Camera, Picture
from batchone.factory.twin.faults import KINDS, Fault, FaultKind
from batchone.factory.twin.machine import Twin
from batchone.slicer.profiles import load_process

PX_MM = 250.0 / SIDE_PX
LAYER = 7


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bar near the corner of least x and y, and a tall plate on the other side."""
    bodies = [plates.box((10, 15, 0), (50, 35, 0.3)), plates.box((180, 150, 0), (240, 240, 0.3))]
    return folder(tmp_path_factory.mktemp("bars"), bodies, TITANIUM)


def taken(build: Path, *faults: Fault, recoater_deg: float = 0.0, seed: int = 5) -> tuple[Picture, Picture]:
    machine = MACHINE.model_copy(update={"recoater_deg": recoater_deg})
    powder, exposure = Camera(Twin(build, TITANIUM, machine, seed=seed, faults=faults)).pictures(LAYER)
    return powder, exposure


@pytest.fixture(scope="module")
def clean(build: Path) -> tuple[Picture, Picture]:
    return taken(build)


def at(x_mm: float, y_mm: float) -> tuple[int, int]:
    return SIDE_PX - 1 - int(y_mm / PX_MM), int(x_mm / PX_MM)


def test_parts_are_where_they_lie_on_the_plate(clean: tuple[Picture, Picture]) -> None:
    powder, exposure = clean
    assert powder.grey.shape == exposure.grey.shape == (1024, 1024)
    assert not powder.truth.any()
    assert not exposure.truth.any()
    changed = np.abs(exposure.grey.astype(int) - powder.grey) > 25  # beyond the noise of the sensor, 4 standard deviations
    assert changed.sum() * PX_MM**2 == pytest.approx(40 * 20 + 60 * 90, rel=0.1)  # most of what is molten is brighter than that
    rows, columns = np.nonzero(changed[512:, :512])
    assert columns.min() * PX_MM == pytest.approx(10.0, abs=2 * PX_MM)
    assert columns.max() * PX_MM == pytest.approx(50.0, abs=2 * PX_MM)
    assert 250.0 - (rows.max() + 512) * PX_MM == pytest.approx(15.0, abs=2 * PX_MM)
    assert not changed[:512, :512].any()


def test_the_same_seed_gives_the_same_pictures(build: Path, clean: tuple[Picture, Picture]) -> None:
    once, again, other = clean, taken(build), taken(build, seed=6)
    for one, two, three in zip(once, again, other, strict=True):
        assert one.png() == two.png()
        assert one.png() != three.png()
    with Image.open(io.BytesIO(once[0].png())) as picture:
        assert picture.mode == "L"
        np.testing.assert_array_equal(np.asarray(picture), once[0].grey)


@pytest.mark.parametrize(
    ("kind", "moments"),
    [
        ("short-feed", (0, 1)), ("recoater-streak", (0, 1)), ("super-elevation", (0, 1)), ("spatter", (1,)), ("power-sag", (1,)),
        ("power-cut", (1,)), ("oxygen-rise", ()),
    ],
)  # fmt: skip
def test_a_fault_is_seen_where_its_mask_says_and_nowhere_else(
    build: Path, clean: tuple[Picture, Picture], kind: FaultKind, moments: tuple[int, ...]
) -> None:
    for moment, (with_it, without) in enumerate(zip(taken(build, Fault(kind, LAYER, 1, 0.8)), clean, strict=True)):
        changed, mask = np.abs(with_it.grey.astype(int) - without.grey), with_it.truth > 0
        assert set(np.unique(with_it.truth)) == ({0, 1 + KINDS.index(kind)} if moment in moments else {0})
        assert moment not in moments or changed[mask].mean() > 6.0
        beside = ndimage.binary_dilation(mask, iterations=12)  # ridges of a furrow, slopes beside the edge of a mask
        assert not (changed[~beside] > 0).any()


def test_a_short_feed_is_at_the_end_of_the_way_of_the_blade(build: Path) -> None:
    mask = taken(build, Fault("short-feed", LAYER, 1, 0.5))[0].truth > 0
    assert mask.mean() == pytest.approx(0.3, abs=0.01)
    assert mask[:, 800:].all()
    assert not mask[:, :600].any()
    turned = taken(build, Fault("short-feed", LAYER, 1, 0.5), recoater_deg=90.0)[0].truth > 0
    assert turned[:224].all()  # y ascends from the last row
    assert not turned[424:].any()
    assert turned.mean() == pytest.approx(0.3, abs=0.01)


def test_a_furrow_is_as_wide_as_it_says_and_goes_on_to_the_end(build: Path) -> None:
    mask = taken(build, Fault("recoater-streak", LAYER, 1, 0.8))[0].truth > 0
    assert mask[:, -1].sum() * PX_MM == pytest.approx(2.4, abs=1.5 * PX_MM)
    again = taken(build, Fault("recoater-streak", LAYER - 1, 2, 0.8))[0].truth > 0
    before = Camera(Twin(build, TITANIUM, MACHINE, seed=5, faults=(Fault("recoater-streak", LAYER - 1, 2, 0.8),)))
    np.testing.assert_array_equal(before.pictures(LAYER - 1)[0].truth > 0, again)  # it stays where it is


def test_a_cut_of_power_leaves_half_of_the_strokes(build: Path) -> None:
    mask = taken(build, Fault("power-cut", LAYER))[1].truth > 0
    whole = 40 * 20 + 60 * 90
    assert 0.3 * whole < mask.sum() * PX_MM**2 < 0.7 * whole
    assert not mask[at(30, 25)]  # the first part
    assert mask[200:, :].sum() == pytest.approx(mask.sum(), rel=0.7)


def test_raised_edges_are_those_of_the_parts(build: Path) -> None:
    mask = taken(build, Fault("super-elevation", LAYER))[0].truth > 0
    around = 2 * (40 + 20) + 2 * (60 + 90)
    assert mask.sum() * PX_MM**2 == pytest.approx(around * 2 * PX_MM, rel=0.05)
    assert mask[at(10.2, 25)]
    assert not mask[at(30, 25)]


def test_particles_are_as_many_as_there_are(build: Path) -> None:
    mask = taken(build, Fault("spatter", LAYER, 1, 0.25))[1].truth > 0
    assert ndimage.label(mask)[1] == pytest.approx(100, abs=8)  # some fall together
    few = taken(build, Fault("spatter", LAYER, 1, 0.05))[1].truth > 0
    assert 0 < few.sum() < mask.sum()


def test_light_comes_from_one_side_and_lines_turn_from_layer_to_layer(build: Path) -> None:
    camera = Camera(Twin(build, TITANIUM, MACHINE, seed=5))
    pictures = [camera.pictures(k)[1].grey.astype(float) for k in (3, 4)]
    assert pictures[0][:, :300].mean() > pictures[0][:, 724:].mean() + 5.0
    row, column = at(210, 195)
    angles = []
    for grey in pictures:
        inside = ndimage.gaussian_filter(grey, 1.0)[row - 100 : row + 100, column - 60 : column + 60]
        right, up = np.diff(inside, axis=1)[:-1].ravel(), -np.diff(inside, axis=0)[:, :-1].ravel()
        tensor = np.cov(np.stack([right, up]))
        across = np.linalg.eigh(tensor)[1][:, -1]  # grey changes most across lines
        angles.append(math.degrees(math.atan2(across[1], across[0])) % 180.0)
    turned = (angles[1] - angles[0]) % 180.0
    assert turned == pytest.approx(67.0, abs=12.0)


def test_there_is_no_camera_where_no_powder_is_spread(tmp_path: Path) -> None:
    resin = load_process("guide-resin")
    twin = Twin(folder(tmp_path, [plates.box((20, 20, 0), (30, 30, 0.5))], resin), resin, MACHINE, seed=5)
    assert Camera(twin).pictures(3) == ()
    with pytest.raises(IndexError):
        Camera(twin).pictures(10)


def test_white_powder_is_white(tmp_path: Path) -> None:
    nylon = load_process("pa12-sls")
    build = folder(tmp_path, [plates.box((20, 20, 0), (80, 80, 0.5))], nylon)
    powder, exposure = Camera(Twin(build, nylon, MACHINE, seed=5)).pictures(3)
    assert powder.grey.mean() > 170
    row, column = at(50, 50)
    assert exposure.grey[row, column] < powder.grey[row, column] - 25  # what is molten is darker
