"""The viewer in a real browser: what is drawn, where, and what it answers; on a case of which every place is known.

The reference picture is made anew by removing ``viewer-reference.png`` and running the test of it, which then fails once.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import browser
import numpy as np
import numpy.typing as npt
import pytest
import viewer_case as truth
import viewer_site
from PIL import Image
from playwright.sync_api import Browser, Route

from batchone.pipeline import codec
from batchone.pipeline.preview import PREVIEW
from batchone.pipeline.values import CheckedDevice, Device, Mesh, Preview, judge

pytestmark = pytest.mark.slow

REFERENCE = Path(__file__).with_name("viewer-reference.png")
STATIC = files("batchone.pipeline.serve") / "static"
AXIAL, CORONAL, SAGITTAL, RENDER = 0, 1, 2, 4
ACROSS = {AXIAL: 2, CORONAL: 1, SAGITTAL: 0}
SIZE = {"width": 1280, "height": 800}
IN_A_STROKE = (-6.5, -14.0, 8.5)  # a place inside the letter
LEG = (5.5, -14.0, -9.5)  # and one at the end of its leg
Pixels = npt.NDArray[np.uint8]

AS_OPENED = """async () => {
  const v = batchoneViewer;
  v.layout("four"); v.cut("none"); v.fit(); v.view("A");
  await v.layer("");
  for (const one of v.surfaces()) if (["device", "bone"].includes(one.kind)) await v.show(one.name, {visible: true, opacity: 1});
  document.querySelector(".viewer-over").style.visibility = "";
  v.goto([0, 0, 0]);
}"""
NAMELESS = """[...document.querySelectorAll("#viewer :is(button, input, select, a, canvas[tabindex])")]
  .filter((one) => !(one.getAttribute("aria-label") || one.textContent.trim() || one.labels?.[0]?.textContent.trim()))
  .map((one) => one.outerHTML)"""
COLOURS = """[...document.querySelectorAll(".viewer-panel :is(button, summary, label, select, p)")].map((one) => {
  let back = one;
  while (back && /rgba\\(0, 0, 0, 0\\)/.test(getComputedStyle(back).backgroundColor)) back = back.parentElement;
  const ground = getComputedStyle(back ?? document.body).backgroundColor;
  return [getComputedStyle(one).color, ground, one.textContent, one.disabled === true];
})"""
PICTURES_CAME = """() =>
  [...document.querySelectorAll(".viewer-sections img")].every((one) => one.complete && one.naturalWidth > 100)"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser.chromium() as found:
        yield found


@pytest.fixture(scope="module")
def viewer(chromium: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The page of the case, open and ready."""
    cases = tmp_path_factory.mktemp("cases")
    truth.write_case(cases)
    with viewer_site.viewer_site(cases) as url:
        yield ready(chromium, url)


def ready(chromium: Browser, url: str) -> browser.Watched:
    """A page of the case on which everything is drawn."""
    watched = browser.Watched(chromium.new_page(viewport=SIZE), url)
    watched.page.set_default_timeout(60_000)
    watched.page.goto(f"{url}/{truth.CASE}")
    watched.page.wait_for_function("() => window.batchoneViewer")
    watched.ask("batchoneViewer.ready")
    return watched


@pytest.fixture
def fresh(viewer: Any) -> Any:
    """The page with four tiles, seen from the front, nothing cut, measured or coloured."""
    viewer.ask(AS_OPENED)
    viewer.page.get_by_role("button", name="Clear", exact=True).click()
    viewer.page.locator(".viewer-picture").focus()
    return viewer


def bare(viewer: Any) -> None:
    """Hide what is drawn over the picture, and let a frame pass."""
    viewer.ask("""() => { document.querySelector(".viewer-over").style.visibility = "hidden"; }""")
    viewer.page.wait_for_timeout(150)


def tiles(viewer: Any) -> dict[int, list[float]]:
    """Left, top, width and height of each tile, CSS px within the canvas."""
    found = {}
    for tile in viewer.ask("batchoneViewer.onScreen([0, 0, 0])"):
        left, top, width, height = tile["box"]
        found[tile["tile"]] = [min(left, left + width), top, abs(width), height]
    return found


def at(viewer: Any, place: Any, tile: int) -> tuple[float, float]:
    """Where a place is drawn in a tile, CSS px within the canvas."""
    found = next(one for one in viewer.ask(f"batchoneViewer.onScreen({list(place)})") if one["tile"] == tile)
    return found["x"], found["y"]


def click(viewer: Any, place: Any, tile: int) -> None:
    x, y = at(viewer, place, tile)
    viewer.page.locator(".viewer-picture").click(position={"x": x, "y": y})
    viewer.page.wait_for_timeout(60)  # ms: the viewer looks after NiiVue has


def mm_per_px(viewer: Any, tile: int) -> float:
    one, other = at(viewer, (0, 0, 0), tile), at(viewer, (10, 10, 10), tile)
    return 10.0 / (abs(one[0] - other[0]) if tile == AXIAL else abs(one[1] - other[1]))


def outlines(viewer: Any) -> dict[str, str]:
    """The colour of every outline in the planes."""
    return {one["name"]: one["colour"] for one in viewer.ask("batchoneViewer.outlines()")}


class TestPicture:
    def test_every_tile_shows_something(self, fresh: Any) -> None:
        fresh.ask(f"batchoneViewer.goto({list(IN_A_STROKE)})")
        bare(fresh)
        picture = fresh.picture(".viewer-stage")
        assert set(tiles(fresh)) == {AXIAL, CORONAL, SAGITTAL, RENDER}
        for left, top, width, height in tiles(fresh).values():
            tile = picture[int(top) : int(top + height), int(left) : int(left + width)].astype(float).mean(axis=2)
            assert np.percentile(tile, 99.0) - np.percentile(tile, 1.0) > 100.0  # of 255: bone or letter against air
            assert tile.std() > 15.0

    def test_it_looks_like_the_reference(self, fresh: Any) -> None:
        fresh.ask(f"batchoneViewer.goto({list(IN_A_STROKE)})")
        bare(fresh)  # letters depend on the fonts of the machine
        small = Image.fromarray(fresh.picture(".viewer-stage")).resize((320, 240), Image.Resampling.BOX)
        if not REFERENCE.is_file():
            small.save(REFERENCE, optimize=True)
            pytest.fail(f"{REFERENCE.name} was made anew: look at it")
        off = np.abs(np.asarray(small).astype(float) - np.asarray(Image.open(REFERENCE).convert("RGB")).astype(float))
        assert off.mean() < 3.0  # of 255: smoothing of edges differs between drivers
        assert (off.max(axis=2) > 60.0).mean() < 0.01

    def test_the_letter_reads_right_in_3d(self, fresh: Any) -> None:
        for other in ("bone-tibia-left", "part-plate"):
            fresh.ask(f"batchoneViewer.show('{other}', {{visible: false}})")
        fresh.ask("batchoneViewer.layout('3d')")
        bare(fresh)
        self.read(fresh, RENDER, lambda pixel: pixel[2] > pixel[0] + 40.0)  # blue

    def test_the_letter_reads_right_in_the_coronal_plane(self, fresh: Any) -> None:
        fresh.ask(f"batchoneViewer.goto({list(IN_A_STROKE)}); batchoneViewer.layout('coronal')")
        bare(fresh)
        self.read(fresh, CORONAL, lambda pixel: pixel.mean() > 160.0)  # as bright as a mark in the scan

    def test_from_behind_it_is_seen_mirrored(self, fresh: Any) -> None:
        fresh.ask("batchoneViewer.layout('3d'); batchoneViewer.view('P')")
        assert at(fresh, IN_A_STROKE, RENDER)[0] > at(fresh, LEG, RENDER)[0] + 20.0

    def read(self, viewer: Any, tile: int, inked: Any) -> None:
        """Ink where the letter has a cell, none where it has none; the stem at the left of the screen, the leg at the right."""
        picture = viewer.picture(".viewer-stage").astype(float)
        assert at(viewer, IN_A_STROKE, tile)[0] < at(viewer, LEG, tile)[0] - 20.0
        for row, line in enumerate(truth.LETTER):
            for column, on in enumerate(line):
                middle = np.array([column + 0.5, truth.LETTER_DEEP_MM / truth.CELL_MM / 2.0, -row - 0.5])
                x, y = at(viewer, (truth.LETTER_AT + middle * truth.CELL_MM).tolist(), tile)
                assert inked(picture[round(y), round(x)]) == (on == "1"), (row, column)


class TestPlaces:
    @pytest.mark.parametrize("place", [*truth.MARKS, truth.FINDING])
    def test_a_place_is_drawn_where_the_planes_have_it(self, fresh: Any, place: Any) -> None:
        fresh.ask(f"batchoneViewer.goto({list(place)})")
        assert fresh.ask("batchoneViewer.crosshair()") == pytest.approx(place, abs=1e-3)
        seen = {one["tile"]: one for one in fresh.ask(f"batchoneViewer.onScreen({list(place)})")}
        for tile in (AXIAL, CORONAL, SAGITTAL):
            left, top, width, height = tiles(fresh)[tile]
            if left < seen[tile]["x"] < left + width and top < seen[tile]["y"] < top + height:  # else it is out of the picture
                assert seen[tile]["under"] == pytest.approx(place, abs=0.02)  # mm, as NiiVue itself reads its screen

    @pytest.mark.parametrize("tile", [AXIAL, CORONAL, SAGITTAL])
    def test_a_click_on_a_place_puts_the_crosshair_there(self, fresh: Any, tile: int) -> None:
        place = truth.MARKS[0]
        fresh.ask(f"batchoneViewer.goto({list(place)})")
        away = [mm - 4.0 for mm in place]
        away[ACROSS[tile]] = place[ACROSS[tile]]
        click(fresh, away, tile)
        assert fresh.ask("batchoneViewer.crosshair()") == pytest.approx(away, abs=1.5 * mm_per_px(fresh, tile))

    def test_a_click_in_3d_finds_the_surface(self, fresh: Any) -> None:
        front = [IN_A_STROKE[0], float(truth.LETTER_AT[1]), IN_A_STROKE[2]]
        click(fresh, front, RENDER)
        assert fresh.ask("batchoneViewer.crosshair()") == pytest.approx(front, abs=1.5 * mm_per_px(fresh, RENDER))
        fresh.ask("batchoneViewer.goto([1, 2, 3])")
        left, top, _, _ = tiles(fresh)[RENDER]
        fresh.page.locator(".viewer-picture").click(position={"x": left + 8, "y": top + 60})  # beside everything
        fresh.page.wait_for_timeout(60)
        assert fresh.ask("batchoneViewer.crosshair()") == pytest.approx([1, 2, 3], abs=1e-3)

    def test_surfaces_lie_where_the_device_has_them(self, fresh: Any) -> None:
        for part in truth.parts():
            places = np.array(fresh.ask(f"batchoneViewer.positions('part-{part.name}')")).reshape(-1, 3)
            assert np.abs(places - part.mesh.vertices_mm).max() < 1e-4  # mm: signed, so neither turned nor mirrored

    @pytest.mark.parametrize(
        ("view", "right", "up"),
        [("A", "L", "S"), ("P", "R", "S"), ("L", "P", "S"), ("R", "A", "S"), ("S", "R", "A"), ("I", "L", "A")],
    )
    def test_the_six_views_look_from_the_side_that_they_name(self, fresh: Any, view: str, right: str, up: str) -> None:
        fresh.page.keyboard.press(view.lower())
        letters = dict(fresh.ask("batchoneViewer.letters()"))
        assert letters[right] == pytest.approx([1.0, 0.0], abs=1e-3)
        assert letters[up] == pytest.approx([0.0, 1.0], abs=1e-3)
        assert view not in letters  # it faces whoever looks

    def test_planes_show_the_patients_right_at_the_left_and_the_front_up_or_left(self, fresh: Any) -> None:
        sides = ((AXIAL, (-9, 0, 0), (9, 0, 0)), (CORONAL, (-9, 0, 0), (9, 0, 0)), (SAGITTAL, (0, -9, 0), (0, 9, 0)))
        for tile, left, right in sides:
            assert at(fresh, left, tile)[0] < at(fresh, right, tile)[0] - 10.0
        assert at(fresh, (0, -9, 0), AXIAL)[1] < at(fresh, (0, 9, 0), AXIAL)[1] - 10.0
        assert at(fresh, (0, 0, 9), CORONAL)[1] < at(fresh, (0, 0, -9), CORONAL)[1] - 10.0
        assert at(fresh, (0, 0, 9), SAGITTAL)[1] < at(fresh, (0, 0, -9), SAGITTAL)[1] - 10.0


class TestFindings:
    def test_the_page_says_where_to_go(self, fresh: Any) -> None:
        detail = f"{{detail: {{point: {list(truth.FINDING)}}}}}"
        fresh.ask(f"document.dispatchEvent(new CustomEvent('batchone:goto', {detail})) && 0")
        assert fresh.ask("batchoneViewer.crosshair()") == pytest.approx(truth.FINDING, abs=1e-3)
        assert fresh.page.locator(".viewer-where").inner_text().startswith("R 12.5  A 13.0  S 4.5 mm")

    @pytest.mark.parametrize("detail", ["null", "{}", "{point: [1, 2]}", "{point: ['1', 2, 3]}", "{point: [1, NaN, 3]}"])
    def test_what_is_no_place_is_not_gone_to(self, fresh: Any, detail: str) -> None:
        fresh.ask(f"document.dispatchEvent(new CustomEvent('batchone:goto', {{detail: {detail}}})) && 0")
        assert fresh.ask("batchoneViewer.crosshair()") == pytest.approx([0, 0, 0], abs=1e-3)


class TestMeasures:
    def test_places_given_by_the_keyboard_are_measured_exactly(self, fresh: Any) -> None:
        for kind, places in (("d", [(0, 0, 0), (3, 4, 12)]), ("g", [(10, 0, 0), (0, 0, 0), (0, 0, 7)])):
            fresh.page.keyboard.press(kind)
            for place in places:
                fresh.ask(f"batchoneViewer.goto({list(place)})")
                fresh.page.keyboard.press("m")
        assert [one["text"] for one in fresh.ask("batchoneViewer.measures()")] == ["13.00 mm", "90.0°"]
        assert fresh.page.get_by_role("list", name="Measures").get_by_role("listitem").count() == 2
        fresh.page.get_by_role("button", name="Remove distance 13.00 mm").click()
        assert [one["kind"] for one in fresh.ask("batchoneViewer.measures()")] == ["angle"]

    @pytest.mark.parametrize("tile", [AXIAL, CORONAL, SAGITTAL])
    def test_places_given_by_the_mouse_are_measured_to_a_pixel(self, fresh: Any, tile: int) -> None:
        ends = [[-20.0, -5.0, -10.0], [15.0, 8.0, 18.0]]
        for end in ends:
            end[ACROSS[tile]] = 0.0
        fresh.page.get_by_role("button", name="Distance", exact=True).click()
        for end in ends:
            click(fresh, end, tile)
        (one,) = fresh.ask("batchoneViewer.measures()")
        assert float(re.sub("[^0-9.]", "", one["text"])) == pytest.approx(math.dist(*ends), abs=1.5 * mm_per_px(fresh, tile))

    def test_escape_ends_a_measure_that_is_not_finished(self, fresh: Any) -> None:
        for key in ("d", "m", "Escape"):
            fresh.page.keyboard.press(key)
        assert fresh.page.locator(".viewer-hint").text_content() == ""
        assert fresh.ask("batchoneViewer.measures()") == []


class TestControls:
    def test_arrows_move_the_crosshair(self, fresh: Any) -> None:
        for key in ("ArrowRight", "ArrowRight", "PageUp", "ArrowDown", "Shift+ArrowUp"):
            fresh.page.keyboard.press(key)
        assert fresh.ask("batchoneViewer.crosshair()") == pytest.approx([2.0, -1.0, -0.9], abs=1e-3)

    def test_keys_are_left_alone_where_a_person_chooses(self, fresh: Any) -> None:
        fresh.page.get_by_label("Coloured by").focus()
        before = fresh.ask("batchoneViewer.letters()")
        fresh.page.keyboard.press("r")
        assert fresh.ask("batchoneViewer.letters()") == before

    def test_a_surface_is_hidden_and_seen_through(self, fresh: Any) -> None:
        fresh.ask("batchoneViewer.goto([40, 30, 30])")
        bare(fresh)
        x, y = (round(px) for px in at(fresh, IN_A_STROKE, RENDER))
        solid = fresh.picture(".viewer-stage")[y, x].astype(int)
        assert solid[2] > solid[0] + 40  # the letter is blue
        fresh.page.get_by_label("letter", exact=True).uncheck()
        bare(fresh)
        behind = fresh.picture(".viewer-stage")[y, x].astype(int)
        assert behind[0] > behind[2]  # bone is ivory
        fresh.ask("batchoneViewer.show('part-letter', {visible: true, opacity: 0.5})")
        bare(fresh)
        half = fresh.picture(".viewer-stage")[y, x].astype(int)
        assert half == pytest.approx((solid + behind) / 2, abs=12)

    def test_a_cut_shows_what_lies_behind_it(self, fresh: Any) -> None:
        fresh.ask("batchoneViewer.goto([0, 10, 0])")
        bare(fresh)
        x, y = (round(px) for px in at(fresh, IN_A_STROKE, RENDER))
        assert fresh.picture(".viewer-stage")[y, x].astype(int)[2] > 100  # the letter
        fresh.page.get_by_label("Cut 3D").select_option("coronal")
        fresh.page.get_by_label("the other side").check()  # away with the front
        bare(fresh)
        pixel = fresh.picture(".viewer-stage")[y, x].astype(int)
        fresh.page.get_by_label("the other side").uncheck()
        assert pixel[0] > pixel[2]  # bone, from inside

    @pytest.mark.parametrize(
        ("layer", "base", "title"),
        [
            ("gap-plate", "part-plate", "distance to the nearest bone, mm"),
            ("wall-letter", "part-letter", "wall thickness, mm"),
            ("uncertainty-tibia-left", "bone-tibia-left", "one standard deviation of the bone surface, mm"),
        ],
    )
    def test_a_layer_stands_in_for_its_surface_and_tells_its_scale(self, fresh: Any, layer: str, base: str, title: str) -> None:
        plain = outlines(fresh)
        fresh.page.get_by_label("Coloured by").select_option(layer)
        fresh.page.wait_for_function(
            f"""() => {{ const shown = (name) => batchoneViewer.surfaces().find((one) => one.name === name)?.visible;
            return shown("{layer}") === true && shown("{base}") === false; }}"""
        )
        assert title in fresh.page.locator(".viewer-scale figcaption").inner_text()
        fresh.page.wait_for_function("layer => batchoneViewer.outlines().some((one) => one.name === layer)", arg=layer)
        told = outlines(fresh)
        assert told == {layer if name == base else name: colour for name, colour in plain.items()}  # device and bone apart
        assert len(set(told.values())) == len(plain) == len(set(plain.values()))

    def test_a_section_is_shown_by_a_click_on_its_name(self, fresh: Any) -> None:
        fresh.page.get_by_role("button", name="bore 1").click()
        pictures = fresh.page.locator(".viewer-sections img")
        assert pictures.count() == 2
        for n in range(2):
            pictures.nth(n).scroll_into_view_if_needed()
        fresh.page.wait_for_function(PICTURES_CAME)
        assert fresh.ask("batchoneViewer.crosshair()") == pytest.approx(truth.BORE.origin_mm, abs=1e-3)
        letters = dict(fresh.ask("batchoneViewer.letters()"))  # the cut holds the way and the patient's left: seen along z
        assert set(letters) == {"L", "R", "A", "P"}
        fresh.page.get_by_role("button", name="Close the section").click()
        assert not fresh.page.locator(".viewer-sections").is_visible()

    def test_each_layout_shows_its_tiles(self, fresh: Any) -> None:
        for key, count in (("2", 4), ("3", 1), ("4", 1), ("5", 1), ("6", 1), ("1", 4)):
            fresh.page.keyboard.press(key)
            assert len(tiles(fresh)) == count

    def test_every_control_has_a_name_and_is_reached_by_the_keyboard(self, fresh: Any) -> None:
        assert fresh.ask(NAMELESS) == []
        reached = set()
        for _ in range(70):
            fresh.page.keyboard.press("Tab")
            reached.add(
                fresh.ask("document.activeElement.getAttribute('aria-label') || document.activeElement.textContent.trim()")
            )
        wanted = {
            "Four",
            "3D",
            "From the front",
            "Opacity of letter",
            "bore 1",
            "Distance",
            "Place of the cut, mm from the crosshair",
        }
        assert wanted <= reached

    @pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 820)])
    def test_text_stands_out_and_nothing_is_wider_than_the_screen(self, fresh: Any, theme: str, width: int) -> None:
        fresh.page.set_viewport_size({"width": width, "height": 1000})
        fresh.ask(f"() => {{ document.documentElement.className = '{theme}'; }}")
        try:
            assert fresh.ask("document.documentElement.scrollWidth") <= width
            colours = fresh.ask(COLOURS)
            assert len(colours) > 20
            for ink, ground, text, disabled in colours:
                assert disabled or contrast(ink, ground) >= 4.5, text  # WCAG 2.2, 1.4.3
        finally:
            fresh.page.set_viewport_size(SIZE)
            fresh.ask("() => { document.documentElement.className = 'dark'; }")

    def test_the_whole_scan_has_every_mark_where_it_was_put(self, fresh: Any) -> None:
        fresh.ask("batchoneViewer.fullVolume()")
        for mark in truth.MARKS:
            fresh.ask(f"batchoneViewer.goto({list(mark)})")
            assert fresh.ask("batchoneViewer.valueAtCrosshair()") == pytest.approx(truth.MARK_HU, abs=1)
            fresh.ask(f"batchoneViewer.goto({[-mark[0], *mark[1:]]})")  # as a mirrored scan would have it
            assert fresh.ask("batchoneViewer.valueAtCrosshair()") != pytest.approx(truth.MARK_HU, abs=1)

    def test_nothing_went_wrong_and_nothing_left_the_server(self, viewer: Any) -> None:
        assert viewer.errors == []
        assert viewer.ask("window.violations") == []
        assert viewer.abroad == []
        assert len(viewer.requests) > 10


def test_a_new_device_and_then_its_checks_are_shown_without_beginning_anew(chromium: Browser, tmp_path: Path) -> None:
    case = truth.write_case(tmp_path)
    moved = [
        replace(part, mesh=Mesh(part.mesh.vertices_mm + np.array([0.0, -0.5, 0.0]), part.mesh.faces)) for part in truth.parts()
    ]
    device = Device("pedicle-guide", tuple(moved))
    failed = judge("walls", "letter: thinnest wall", 0.5, "mm", low=1.0, where_mm=truth.FINDING)

    def publish(stage: str, value: Any, taken: dict[str, str]) -> str:
        def write(into: Path) -> dict[str, Any]:
            return {"seconds": 1.0, "value_digest": codec.save(value, into), "findings": {"$tuple": []}, "taken": taken}

        return str(case.publish(stage, write)["value_digest"])

    with viewer_site.viewer_site(tmp_path) as url:
        watched = ready(chromium, url)
        before = np.reshape(watched.ask("batchoneViewer.positions('part-plate')"), (-1, 3))
        watched.ask("batchoneViewer.show('part-letter', {opacity: 0.5})")
        renew = """async () => {
          document.dispatchEvent(new Event("batchone:newer"));
          await batchoneViewer.renewed();
        }"""

        def asked() -> list[str]:
            begun = len(watched.requests)
            watched.ask(renew)
            return sorted(one.rpartition(f"/review/{truth.CASE}/")[2] for one in watched.requests[begun:])

        assert asked() == ["scene"]  # nothing is new
        made = publish("design", device, {})
        publish(PREVIEW.name, Preview((failed,)), {"Device": made})
        assert asked() == ["scene", "surface/bone-tibia-left", "surface/part-letter", "surface/part-plate"]  # the scan stays
        after = np.reshape(watched.ask("batchoneViewer.positions('part-plate')"), (-1, 3))
        assert after - before == pytest.approx(np.broadcast_to([0.0, -0.5, 0.0], before.shape), abs=1e-4)
        found = {one["name"]: one for one in watched.ask("batchoneViewer.surfaces()")}
        assert sorted(found) == ["bone-tibia-left", "part-letter", "part-plate"]
        assert (found["part-letter"]["opacity"], found["part-plate"]["opacity"]) == (0.5, 1.0)
        publish("check", CheckedDevice(device, (failed,)), {"Device": made})
        assert asked() == ["scene"]  # the device is the same
        assert watched.errors == []
        assert watched.ask("window.violations") == []
        watched.page.close()


def test_what_belongs_to_the_device_before_goes_with_it_and_a_failure_begins_anew(chromium: Browser, tmp_path: Path) -> None:
    case = truth.write_case(tmp_path)

    def move(mm: float) -> None:
        shift = np.array([0.0, -mm, 0.0])
        moved = tuple(replace(part, mesh=Mesh(part.mesh.vertices_mm + shift, part.mesh.faces)) for part in truth.parts())

        def write(into: Path) -> dict[str, Any]:
            value = CheckedDevice(Device("pedicle-guide", moved), ())
            return {"seconds": 1.0, "value_digest": codec.save(value, into), "findings": {"$tuple": []}}

        case.publish("check", write)

    with viewer_site.viewer_site(tmp_path) as url:
        watched = ready(chromium, url)
        before = np.reshape(watched.ask("batchoneViewer.positions('part-plate')"), (-1, 3))
        watched.page.locator(".viewer-picture").focus()
        for key in ("m", "ArrowLeft", "m"):
            watched.page.keyboard.press(key)
        assert len(watched.ask("batchoneViewer.measures()")) == 1
        watched.ask("batchoneViewer.section('bore-1')")
        sources = "[...document.querySelectorAll('.viewer-sections img')].map((one) => one.src)"
        old = watched.ask(sources)
        watched.page.wait_for_function(PICTURES_CAME)

        def asked(mm: float) -> set[str]:
            move(mm)
            begun = len(watched.requests)
            watched.ask("""async () => {
              document.dispatchEvent(new Event("batchone:newer"));
              await batchoneViewer.renewed();
            }""")
            watched.page.wait_for_function(PICTURES_CAME)  # those of this device; once it has moved on there are none of it
            return {one.rpartition("/")[2] for one in watched.requests[begun:]}

        assert "volume" not in asked(10.0)  # mm; from 15 mm on the scan that is there is too small
        new = watched.ask(sources)
        assert len(old) == len(new) == 2
        assert not set(old) & set(new)
        assert watched.ask("batchoneViewer.measures()") == []
        assert "volume" in asked(20.0)  # no step is more than 10 mm
        watched.ask("batchoneViewer.fullVolume()")
        assert "volume" not in asked(0.0)  # the whole scan stays
        assert watched.errors == []
        lost: list[str] = []

        def lose_first(route: Route) -> None:
            if lost:
                return route.continue_()
            lost.append(route.request.url)
            return route.abort()

        watched.page.route("**/surface/part-plate", lose_first)  # for good: a route that goes may hold what is under way
        move(5.0)
        with watched.page.expect_navigation():
            watched.page.evaluate("() => void document.dispatchEvent(new Event('batchone:newer'))")
        watched.page.wait_for_function("() => window.batchoneViewer")
        watched.ask("batchoneViewer.ready")
        after = np.reshape(watched.ask("batchoneViewer.positions('part-plate')"), (-1, 3))
        assert after - before == pytest.approx(np.broadcast_to([0.0, -5.0, 0.0], before.shape), abs=1e-4)
        watched.page.close()


def contrast(one: str, other: str) -> float:
    """Contrast of two CSS colours (WCAG 2.2)."""

    def light(colour: str) -> float:
        parts = [float(part) / 255.0 for part in re.findall(r"[\d.]+", colour)[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((light(one), light(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_files_of_others_are_those_that_their_digests_say() -> None:
    sums = dict(reversed(line.split()) for line in (STATIC / "SHA256SUMS").read_text().splitlines())
    assert {"htmx.min.js", "niivue.js"} <= set(sums)
    for name, digest in sums.items():
        assert hashlib.sha256((STATIC / name).read_bytes()).hexdigest() == digest
    assert all(name in (STATIC / "NOTICE").read_text() for name in ("htmx.min.js", "niivue.js"))


def test_our_scripts_evaluate_nothing_and_fetch_from_nowhere_else() -> None:
    ours = [one for one in STATIC.iterdir() if one.name.startswith("viewer") and one.name.endswith(".js")]
    assert len(ours) == 5
    for one, banned in itertools.product(ours, ("eval(", "new Function", "innerHTML", "http:", "https:", "localStorage")):
        assert banned not in one.read_text(encoding="utf-8"), (one.name, banned)
