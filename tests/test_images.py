"""Images of resin layers: exact cover of pixels, the way up, the archive, and PrusaSlicer's own images as an oracle."""

from __future__ import annotations

import io
import shutil
import subprocess
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import manifold3d
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from batchone.pipeline.errors import MachineError
from batchone.pipeline.job.images import image_figures
from batchone.pipeline.job.measure import stl_bytes
from batchone.pipeline.machine import Mask
from batchone.pipeline.values import FloatArray, Mesh
from batchone.slicer.images import _LAST, _chunk, _piece, image_findings, read_png, write_sl1
from batchone.slicer.layers import Layers, slice_parts
from batchone.slicer.profiles import load_machine

MASK = Mask(columns=300, rows=200, pixel_mm=0.1, corner_mm=(5.0, 10.0), sources={})  # 5 to 35 mm, 10 to 30 mm
Solid = manifold3d.Manifold


def layer_of(*loops: FloatArray) -> Layers:
    """One layer of closed loops."""
    area = [0.5 * float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) for x, y in (loop.T for loop in loops)]
    start = np.concatenate([[0], np.cumsum([len(loop) for loop in loops])]).astype(np.int64)
    flat = np.zeros(len(loops), dtype=np.int32)
    return Layers(0.05, 1, np.concatenate(loops), start, flat, flat, np.array(area))


def box(low: tuple[float, float], high: tuple[float, float]) -> FloatArray:
    return np.array([low, (high[0], low[1]), high, (low[0], high[1])])


def wedge(count: int = 40) -> Layers:
    """Layers of a solid without any symmetry, well inside of the mask."""
    solid = Solid.cube((16, 5, 2)) + Solid.cube((4, 11, 2)) - Solid.cylinder(9, 1.3, 0.7, 48).translate((12.3, 2.2, -1))
    return slice_parts([placed(solid.translate((9.03, 14.07, 0)))], 2.0 / count)


def placed(solid: Solid) -> Mesh:
    out = solid.to_mesh64()
    return Mesh(np.array(out.vert_properties[:, :3]), np.array(out.tri_verts).astype(np.int32))


def image(archive: bytes, layer: int = 0) -> FloatArray:
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        name = sorted(name for name in files.namelist() if name.endswith(".png"))[layer]
        with Image.open(io.BytesIO(files.read(name))) as picture:
            assert picture.mode == "L"
            return np.array(picture)


def archive_of(layers: Layers, mask: Mask = MASK) -> bytes:
    return write_sl1(layers, mask, name="job", seconds=12.0)


def test_grey_is_the_share_of_a_pixel_that_is_covered() -> None:
    # pixels are 0.1 mm from x = 5 and y = 10: columns 100 to 102.5, the rows from the top 150.75 to 153
    grey = image(archive_of(layer_of(box((15.0, 14.7), (15.25, 14.925)))))
    assert grey.shape == (200, 300)
    wanted = np.zeros((200, 300))
    wanted[151:153, 100:102], wanted[151:153, 102], wanted[150, 100:102], wanted[150, 102] = 255, 128, 64, 32
    np.testing.assert_array_equal(grey, wanted)


def test_what_reaches_to_the_rim_of_the_mask_lights_it_all() -> None:
    third = Mask(columns=300, rows=200, pixel_mm=1.0 / 3.0, corner_mm=(5.0, 10.0), sources={})  # not exact in binary
    for mask in (MASK, third):
        far = (5.0 + mask.columns * mask.pixel_mm, 10.0 + mask.rows * mask.pixel_mm)
        grey = image(archive_of(layer_of(box((5.0, 10.0), far)), mask))
        np.testing.assert_array_equal(grey, np.full((200, 300), 255))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_pixels_are_those_of_the_polygon(seed: int) -> None:
    rng = np.random.default_rng(seed)

    def star(low: float, high: float) -> FloatArray:
        angle = np.sort(rng.uniform(0.0, 2.0 * np.pi, 12))
        return np.array([20.0, 20.0]) + rng.uniform(low, high, 12)[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])

    outer, hole = star(3.0, 9.5), star(0.3, 1.2)
    shape = shapely.Polygon(outer, [hole])
    if not shape.is_valid or not shapely.Polygon(outer).exterior.is_ccw or not shapely.Polygon(hole).exterior.is_ccw:
        return
    grey = image(archive_of(layer_of(outer, hole[::-1])))
    assert grey.sum() / 255.0 * 0.01 == pytest.approx(shape.area, abs=0.02)
    for row, column in zip(rng.integers(0, 200, 40).tolist(), rng.integers(0, 300, 40).tolist(), strict=True):
        pixel = shapely.box(5.0 + column * 0.1, 30.0 - row * 0.1 - 0.1, 5.0 + column * 0.1 + 0.1, 30.0 - row * 0.1)
        assert grey[row, column] == pytest.approx(255.0 * shape.intersection(pixel).area / pixel.area, abs=0.51)


def test_the_platform_is_seen_from_above_and_never_mirrored() -> None:
    """Three spots of different size: small at the origin, larger along x, largest along y."""
    spots = [box((x, y), (x + s, y + s)) for x, y, s in ((7.0, 11.0, 1.0), (30.0, 12.0, 2.0), (8.0, 25.0, 3.0))]
    grey = image(archive_of(layer_of(*spots)))
    lit = [np.argwhere(grey[rows, columns]) for rows, columns in (
        (slice(150, 200), slice(0, 100)), (slice(150, 200), slice(200, 300)), (slice(0, 100), slice(0, 100)))]  # fmt: skip
    assert [len(places) for places in lit] == [100, 400, 900]
    assert np.count_nonzero(grey) == 1400


def test_an_archive_is_measured_and_holds_what_was_asked_for() -> None:
    layers = wedge()
    archive = archive_of(layers)
    findings = {finding.check: finding for finding in image_findings(archive, layers, MASK)}
    assert {finding.verdict for finding in findings.values()} == {"pass"}
    assert findings["layers.images"].value == layers.count == 40
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        assert files.testzip() is None
        assert files.namelist() == ["config.ini", *(f"job{k:05d}.png" for k in range(40))]
        config = dict(line.split(" = ") for line in files.read("config.ini").decode().splitlines())
        assert {info.date_time for info in files.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert (config["action"], config["numFast"], config["layerHeight"], config["printTime"]) == ("print", "40", "0.05", "12")
    assert archive == archive_of(wedge())
    figures = image_figures(archive)
    assert (figures.images, figures.columns, figures.rows) == (40, 300, 200)
    assert figures.lit == pytest.approx(layers.area_mm2().sum() / 0.01, rel=1e-3)


def test_a_post_in_a_hole_is_no_fault_of_the_image() -> None:
    tube = Solid.cylinder(1, 8, 8, 64) - Solid.cylinder(3, 6, 6, 64).translate((0, 0, -1))
    layers = slice_parts([placed((tube + Solid.cylinder(1, 2, 2, 64)).translate((20, 20, 0)))], 0.05)
    assert {finding.verdict for finding in image_findings(archive_of(layers), layers, MASK)} == {"pass"}


def changed(archive: bytes, layer: int, picture: FloatArray) -> bytes:
    """The archive with another image of the same form in one place, written as ours are."""
    lines = np.zeros((picture.shape[0], picture.shape[1] + 1), dtype=np.uint8)
    lines[:, 1:] = picture
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as files, zipfile.ZipFile(out, "w") as other:
        for name in files.namelist():
            data = files.read(name)
            if name == f"job{layer:05d}.png":
                checksum = zlib.adler32(lines.tobytes()).to_bytes(4, "big")
                body = b"\x78\x01" + _piece(lines.tobytes()) + _LAST + checksum
                data = data[:33] + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")
            other.writestr(name, data)
    return out.getvalue()


@pytest.mark.parametrize(("steps", "wide", "blank"), [(0.3, 1.0, 0), (0.99, 4.0, 0), (1.01, 4.0, 1), (0.0, 1.0, 1)])
def test_a_layer_may_be_dark_where_it_covers_less_than_a_step_of_grey(steps: float, wide: float, blank: int) -> None:
    """Slivers over some pixels, each of which rounds to black; a layer without contours is blank."""
    area_mm2 = steps * MASK.pixel_mm**2 / 255.0
    left, wide_mm = 15.0, wide * MASK.pixel_mm
    sliver = box((left, 15.02), (left + wide_mm, 15.02 + area_mm2 / wide_mm))
    layers = layer_of(sliver)
    assert layers.area_mm2()[0] == pytest.approx(area_mm2)
    archive = archive_of(layers)
    assert not image(archive).any()
    (found,) = (one for one in image_findings(archive, layers, MASK) if one.check == "layers.images_blank")
    assert found.value == blank


def test_a_blank_a_mirrored_a_moved_and_a_missing_image_are_found() -> None:
    layers = wedge()
    archive = archive_of(layers)
    middle = 20  # one of those that are compared pixel by pixel
    grey = image(archive, middle)

    def failed(other: bytes) -> set[str]:
        return {finding.check for finding in image_findings(other, layers, MASK) if finding.verdict == "fail"}

    assert failed(changed(archive, middle, grey)) == set()
    assert failed(changed(archive, 7, np.zeros_like(grey))) == {"layers.images_blank", "layers.images_area"}
    assert failed(changed(archive, middle, grey[:, ::-1])) == {"layers.images_outline"}
    assert failed(changed(archive, middle, grey[::-1])) == {"layers.images_outline"}
    assert failed(changed(archive, middle, np.roll(grey, 1, axis=1))) == {"layers.images_outline"}
    assert failed(changed(archive, 30, np.minimum(grey, 252))) == {"layers.images_area"}
    fewer = replace(layers, count=39)
    assert "layers.images" in {f.check for f in image_findings(archive, fewer, MASK) if f.verdict == "fail"}


def test_a_damaged_image_is_refused() -> None:
    layers = wedge(4)
    archive = archive_of(layers)
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        data = files.read("job00001.png")
    assert read_png(data).shape == (200, 300)
    for broken in (b"", data[:40], data[:100] + bytes([data[100] ^ 1]) + data[101:], b"GIF89a" + data[6:]):
        with pytest.raises(MachineError, match="cannot be read"):
            read_png(broken)
    for hostile in (b"", b"PK", archive[: len(archive) // 2], archive.replace(b"IHDR", b"IHDX")):
        with pytest.raises(MachineError):
            image_figures(hostile)


@pytest.mark.parametrize(
    ("low", "high"), [((5.0, 10.0), (35.0, 30.0)), ((5.0, 29.95), (5.05, 30.0)), ((34.9, 10.0), (35.0, 10.03))]
)
def test_what_reaches_the_edge_of_the_mask_is_shown(low: tuple[float, float], high: tuple[float, float]) -> None:
    grey = image(archive_of(layer_of(box(low, high))))
    assert grey.sum() / 255.0 * 0.01 == pytest.approx((high[0] - low[0]) * (high[1] - low[1]), abs=1e-4)


def test_what_reaches_beyond_the_mask_is_refused() -> None:
    for low, high in (((4.99, 15.0), (6.0, 16.0)), ((34.0, 29.0), (34.5, 30.01))):
        with pytest.raises(MachineError, match=r"the mask from \(5\.0, 10\.0\) to \(35\.0, 30\.0\) mm"):
            archive_of(layer_of(box(low, high)))


def test_the_mask_of_the_simulated_machine_covers_its_plate() -> None:
    machine = load_machine("sim-01")
    assert machine.mask is not None
    assert (machine.mask.columns * machine.mask.pixel_mm, machine.mask.rows * machine.mask.pixel_mm) == machine.envelope_mm[:2]
    assert set(machine.mask.sources) == {"columns", "rows", "pixel_mm", "corner_mm"}


SLA = """printer_technology = SLA
display_width = 30
display_height = 20
display_pixels_x = 300
display_pixels_y = 200
display_orientation = landscape
display_mirror_x = 0
display_mirror_y = 0
bed_shape = 0x0,30x0,30x20,0x20
layer_height = 0.05
initial_layer_height = 0.05
supports_enable = 0
pad_enable = 0
gamma_correction = 1
absolute_correction = 0
elefant_foot_compensation = 0
slice_closing_radius = 0
"""


@pytest.mark.skipif(shutil.which("prusa-slicer") is None, reason="needs the Debian package prusa-slicer")
def test_another_program_lights_the_same_areas(tmp_path: Path) -> None:
    solid = Solid.cube((16, 5, 2)) + Solid.cube((4, 11, 1)) - Solid.cylinder(9, 1.3, 0.7, 48).translate((12.3, 2.2, -1))
    mesh = placed(solid.translate((5.0, 5.0, 0.0)))
    (tmp_path / "part.stl").write_bytes(stl_bytes(mesh))
    (tmp_path / "sla.ini").write_text(SLA)
    command = ["prusa-slicer", "--export-sla", "--datadir", str(tmp_path / "d"), "--load", "sla.ini", "--dont-arrange"]
    subprocess.run([*command, "--output", "o.sl1", "part.stl"], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    theirs = (tmp_path / "o.sl1").read_bytes()
    mask = Mask(columns=300, rows=200, pixel_mm=0.1, corner_mm=(0.0, 0.0), sources={})
    ours = archive_of(slice_parts([mesh], 0.05), mask)
    for layer in range(0, 40, 3):
        one, other = image(ours, layer).sum() / 255.0, image(theirs, layer).sum() / 255.0
        assert one == pytest.approx(other, rel=2e-3), layer
