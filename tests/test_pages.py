"""The pages in a real browser: sign in, look at a case, change a number, see the new device, compare, sign; what is refused."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import access
import browser
import httpx
import numpy as np
import pytest
import site_server
import viewer_case
from PIL import Image
from playwright.sync_api import Browser, Page, Response, expect

from batchone.pipeline import codec
from batchone.pipeline.case import run_case
from batchone.pipeline.case_order import order_digest, read_case_order
from batchone.pipeline.markups.write import write_markups
from batchone.pipeline.order import order_text
from batchone.pipeline.serve.guard import COOKIE
from batchone.pipeline.store import CaseFolder
from batchone.pipeline.values import Axis, CheckedDevice, Device, Plan, judge
from batchone.samples.small_case import write_small_case

pytestmark = pytest.mark.slow

CASE = "small-0001"
SCRIPT = "<img src=x onerror=alert(1)>"
expect.set_options(timeout=60_000)  # ms; other tests run beside


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A site with one real case that waits for its review, its prescription written by somebody hostile."""
    folder = tmp_path_factory.mktemp("pages")
    order, study = write_small_case(folder, case=CASE)
    order.write_text(order.read_text().replace("a short bone, as large as life", SCRIPT))
    assert run_case(read_case_order(order), study, site=folder / "site").status == "awaiting-approval"
    with site_server.serving(folder / "site") as found:
        yield found


@pytest.fixture(scope="module")
def worker(server: Any) -> Iterator[None]:
    """A worker beside it, as the server has one on one PC."""
    command = [sys.executable, "-m", "batchone.pipeline", "worker", "--site", str(server.site)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        yield
        process.terminate()
        process.wait(timeout=60)


@pytest.fixture(scope="module")
def opened() -> Iterator[Browser]:
    with browser.chromium() as found:
        yield found


@pytest.fixture
def page(opened: Browser, server: Any, request: pytest.FixtureRequest) -> Iterator[Page]:
    """An empty browser; anything that a script, the policy or another address has to complain of fails the test."""
    context = opened.new_context(base_url=server.url)
    page = context.new_page()
    page.set_default_timeout(120_000)
    if "drawn" not in request.node.name:  # drawing in software takes a core
        page.route("**/static/viewer.js", lambda route: route.fulfill(body="", content_type="text/javascript"))
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if "Content Security Policy" in said.text else None)
    page.on("request", lambda asked: None if asked.url.startswith(server.url) else wrong.append(asked.url))
    page.on("dialog", lambda dialog: wrong.append(dialog.message))
    yield page
    context.close()
    assert wrong == []


def sign_in(page: Page, server: Any, role: str, hospital: str = "") -> None:
    page.goto("/")
    page.get_by_label("Name").fill(server.person(role, hospital))
    page.get_by_label("Password").fill(site_server.PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Cases")).to_be_visible()


def picture(page: Page, folder: Path, name: str) -> None:
    page.screenshot(path=folder / f"{name}.png", full_page=True)


def test_an_engineer_changes_a_number_and_an_approver_signs_the_new_device(
    server: Any, worker: None, page: Page, tmp_path: Path
) -> None:
    """The whole way without a mouse; on every page of it axe-core looks."""
    hand = access.Hand(page)
    page.goto("/")
    assert access.faults(page) == []
    hand.write(page.get_by_label("Name"), server.person("approver"))
    hand.write(page.get_by_label("Password"), site_server.PASSWORD)
    hand.press(page.get_by_role("button", name="Sign in"))
    expect(page.get_by_role("heading", name="Cases")).to_be_visible()
    picture(page, tmp_path, "board")
    assert access.faults(page) == []
    hand.press(page.get_by_role("link", name=CASE))
    expect(page.get_by_text("awaiting-approval")).to_be_visible()
    expect(page.get_by_text(SCRIPT)).to_be_visible()  # as text
    hand.press(page.locator("summary", has_text=" passed"))
    assert page.locator(".passed tbody tr").count() > 10
    picture(page, tmp_path, "case")
    assert access.faults(page) == []
    page.evaluate("document.addEventListener('batchone:goto', (event) => { window.wentTo = event.detail.point; })")
    finding = page.locator(".place").first
    hand.press(finding)
    assert ",".join(map(str, page.evaluate("window.wentTo"))) == finding.get_attribute("data-point")
    hand.write(page.get_by_label("cut_top_mm"), "900")
    hand.press(page.get_by_role("button", name="Design again"))
    expect(page.locator("#notice")).to_contain_text("cut_top_mm")
    assert page.get_by_label("cut_top_mm").input_value() == "900"
    hand.write(page.get_by_label("cut_top_mm"), "20")
    hand.press(page.get_by_role("button", name="Design again"))
    page.evaluate("window.stays = true")
    expect(page.get_by_text("new device under way").or_(page.get_by_text("release checks follow").first)).to_be_visible()
    expect(page.locator("#kept + form")).to_be_visible(timeout=300_000)  # two revisions: there is something to compare
    assert page.evaluate("window.stays")  # the new device came to the page that was there
    hand.press(page.get_by_role("button", name="Compare"))
    row = page.get_by_role("row", name=re.compile("cut_top_mm"))
    expect(row).to_contain_text("0")
    expect(row).to_contain_text("20")
    picture(page, tmp_path, "compare")
    assert access.faults(page) == []
    hand.press(page.get_by_role("link", name=CASE))
    sign = page.get_by_role("button", name="Sign as")
    hand.tick(page.get_by_label("approve", exact=True))
    hand.write(page.locator("#sign ~ form").get_by_label("Password again"), "a wrong password")
    hand.press(sign)
    expect(page.locator("#notice")).to_contain_text("not ticked")
    hand.tick(page.get_by_label("I have reviewed"))
    hand.press(sign)
    expect(page.locator("#notice")).to_contain_text("name or password is wrong")
    hand.write(page.locator("#sign ~ form").get_by_label("Password again"), site_server.PASSWORD)
    points = page.get_by_role("group", name=re.compile("Checklist"))
    for point in points.get_by_role("checkbox").all()[1:]:
        hand.tick(point)
    hand.press(sign)
    expect(page.locator("#notice")).to_contain_text("1 of the 4 points of the checklist are not confirmed")
    hand.tick(points.get_by_role("checkbox").first)
    hand.press(sign)
    expect(page.get_by_role("link", name=re.compile("Job folder"))).to_be_visible(timeout=300_000)
    picture(page, tmp_path, "done")
    page.get_by_role("link", name="Reports", exact=True).click()
    expect(page.get_by_role("heading", name="After printing")).to_be_visible()
    expect(page.get_by_text("checked, one by one")).to_have_count(4)
    seen = page.locator(".pictures img").first
    seen.scroll_into_view_if_needed()
    assert seen.evaluate("one => one.decode().then(() => one.naturalWidth)") > 100
    with page.expect_download() as given:
        page.get_by_role("link", name="clinical-report.pdf").click()
    assert Path(given.value.path()).read_bytes().startswith(b"%PDF-")
    picture(page, tmp_path, "report")
    page.get_by_role("link", name=CASE).click()
    expect(page.get_by_text("its device is locked")).to_be_visible()
    assert access.faults(page) == []
    assert any("approved" in event["what"] for event in server.services.cases.events(CASE))


def test_scan_and_device_are_drawn_and_a_click_on_a_finding_arrives_there(server: Any, page: Page, tmp_path: Path) -> None:
    sign_in(page, server, "engineer")
    page.goto(f"/review/{CASE}")
    page.wait_for_function("window.batchoneViewer !== undefined")
    page.evaluate("window.batchoneViewer.ready")
    picture(page, tmp_path, "viewer")
    assert access.faults(page) == []
    drawn = np.asarray(Image.open(BytesIO(page.locator("#viewer canvas").first.screenshot())).convert("L"), dtype=float)
    rows, columns = drawn.shape
    for tile in (drawn[: rows // 2, : columns // 2], drawn[rows // 2 :, : columns // 2], drawn[: rows // 2, columns // 2 :]):
        assert tile.std() > 8.0  # a blank tile has only its letters
    page.locator("summary", has_text=" passed").click()
    place = page.locator(".place").first
    point = [float(text) for text in (place.get_attribute("data-point") or "").split(",")]
    place.click()
    page.wait_for_function(
        "point => Math.hypot(...window.batchoneViewer.crosshair().map((x, i) => x - point[i])) < 0.5", arg=point
    )
    for name in ("A", "P", "L", "R", "S", "I"):
        page.evaluate("name => window.batchoneViewer.view(name)", name)


def test_what_needs_a_look_has_a_picture_that_is_made_when_somebody_looks(server: Any, page: Page, tmp_path: Path) -> None:
    site_server.make_case(server.site, viewer_case.CASE)
    case = viewer_case.write_case(server.site / "cases")
    checked = case.load("check")
    seats = judge("seating-slip", "plate: slide per mm of gap", 3.4, "mm/mm", high=8.0)
    checked = replace(checked, findings=(*checked.findings, seats))

    def write(into: Path) -> dict[str, Any]:
        told = {"seconds": 1.0, "findings": codec.flatten(checked.findings)[0]}
        return {**told, "value_digest": codec.save(checked, into)}

    device = case.publish("check", write)["value_digest"]
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url.rpartition("/")[2]) if "/picture/" in request.url else None)
    sign_in(page, server, "engineer")
    page.goto(f"/review/{viewer_case.CASE}")
    shown = page.locator("img.found").first
    expect(shown).to_have_attribute("alt", re.compile("letter: thinnest wall, 0.7 mm, at least 1 mm"))
    shown.scroll_into_view_if_needed()
    page.wait_for_function("() => document.querySelector('img.found').naturalWidth === 900")
    assert asked == [f"finding-walls?of={device}"]
    page.locator("summary", has_text="How it seats").click()
    page.locator("summary", has_text="Map of wrong poses of plate").click()
    page.locator("img.found").nth(1).scroll_into_view_if_needed()
    page.wait_for_function("() => document.querySelectorAll('img.found')[1].naturalWidth === 900")
    assert asked == [f"{name}?of={device}" for name in ("finding-walls", "seat-plate")]
    picture(page, tmp_path, "findings")
    assert access.faults(page) == []


def test_what_was_typed_outlives_the_session(server: Any, page: Page) -> None:
    site_server.make_case(server.site, "typed")
    order = server.site / "cases" / CASE / "order.toml"
    (server.site / "cases" / "typed" / "order.toml").write_text(order.read_text().replace(CASE, "typed"))
    sign_in(page, server, "engineer")
    page.goto("/review/typed")
    page.get_by_label("wall_mm").fill("3.25")
    page.context.clear_cookies()
    page.get_by_role("button", name="Design again").click()
    expect(page.locator("#notice")).to_contain_text("not signed in")
    assert page.get_by_label("wall_mm").input_value() == "3.25"
    page.goto("/review/typed")
    page.get_by_label("Name").fill("engineer")
    page.get_by_label("Password").fill(site_server.PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_label("wall_mm")).to_have_value("3.25")
    with page.expect_response(lambda answer: answer.url.endswith("/design")):
        page.get_by_role("button", name="Design again").click()
    page.wait_for_function("sessionStorage.length === 0")  # what was sent is no draft any more
    assert read_case_order(server.site / "cases" / "typed" / "order.toml").parameters.model_dump()["wall_mm"] == 3.25
    page.goto("/review/typed")
    line = Plan("anatomical-model", True, "left", axes=(Axis(SCRIPT, (1.0, 2.0, 3.0), (0.0, 0.0, 1.0), 30.0),))
    page.get_by_label("File (.mrk.json)").set_input_files(
        {"name": "plan.mrk.json", "mimeType": "application/json", "buffer": write_markups(line)}
    )
    page.get_by_role("button", name="Send the plan").click()
    expect(page.get_by_role("row", name=f"line {SCRIPT}")).to_contain_text("1.00 2.00 3.00 to 1.00 2.00 33.00")  # as text


def drafted_case(server: Any, case: str) -> Path:
    """A case with the order of the real one; where that order lies."""
    place: Path = site_server.make_case(server.site, case) / "order.toml"
    place.write_text((server.site / "cases" / CASE / "order.toml").read_text().replace(CASE, case))
    return place


def designed(status: int) -> Callable[[Response], bool]:
    """Whether an answer is that of the form of the parameters, with a status."""
    return lambda answer: answer.url.endswith("/design") and answer.status == status


def in_another_tab(page: Page, server: Any, role: str) -> None:
    """Follow the notice of a session that ended, and sign in there."""
    with page.expect_popup() as opened:
        page.get_by_role("link", name="Sign in in another tab").click()
    other = opened.value
    other.get_by_label("Name").fill(server.person(role))
    other.get_by_label("Password").fill(site_server.PASSWORD)
    other.get_by_role("button", name="Sign in").click()
    expect(other.get_by_role("heading", name="Cases")).to_be_visible()
    other.close()


def test_whoever_signs_in_in_another_tab_sends_it_again_from_the_page_that_was_open(server: Any, page: Page) -> None:
    place = drafted_case(server, "again")
    sign_in(page, server, "engineer")
    page.goto("/review/again")
    page.get_by_label("wall_mm").fill("3.25")
    send = page.get_by_role("button", name="Design again")
    for signed_in, status in (("approver", 403), ("engineer", 200)):  # another person does not send what this one typed
        page.context.clear_cookies()
        send.click()
        expect(page.locator("#notice")).to_contain_text("not signed in")
        in_another_tab(page, server, signed_in)
        with page.expect_response(designed(status)):
            send.click()
        if status == 403:
            expect(page.locator("#notice")).to_contain_text("load the page again")
            assert page.get_by_label("wall_mm").input_value() == "3.25"
            assert "wall_mm = 3.25" not in place.read_text()
    page.wait_for_function("sessionStorage.length === 0")
    assert read_case_order(place).parameters.model_dump()["wall_mm"] == 3.25


def test_a_page_whose_session_ended_says_so_once_and_asks_no_more_until_it_goes_on(server: Any, page: Page) -> None:
    drafted_case(server, "ended")
    sign_in(page, server, "engineer")
    page.goto("/review/ended")
    page.context.clear_cookies()
    expect(page.locator("#notice")).to_contain_text("not signed in")
    page.evaluate("window.told = document.querySelector('#notice p')")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(4_500)  # ms: two rounds of the question for news
    assert asked == []
    assert page.evaluate("window.told.isConnected")
    in_another_tab(page, server, "engineer")
    page.get_by_label("wall_mm").fill("900")
    page.get_by_role("button", name="Design again").click()
    expect(page.locator("#notice")).to_contain_text("wall_mm")
    with page.expect_response(lambda answer: answer.url.endswith("/state") and answer.status == 200):
        pass


def test_of_two_engineers_the_second_is_told_that_the_order_is_another_now(server: Any, page: Page) -> None:
    site_server.make_case(server.site, "both")
    text = (server.site / "cases" / CASE / "order.toml").read_text().replace(CASE, "both")
    (server.site / "cases" / "both" / "order.toml").write_text(text)
    sign_in(page, server, "engineer")
    page.goto("/review/both")
    (server.site / "cases" / "both" / "order.toml").write_text(text.replace("pa12-sls", "guide-resin"))
    page.get_by_label("wall_mm").fill("3.25")
    page.get_by_role("button", name="Design again").click()
    expect(page.locator("#notice")).to_contain_text("changed meanwhile")
    assert page.get_by_label("wall_mm").input_value() == "3.25"


def test_a_draft_holds_what_was_typed_and_nothing_that_another_changed(server: Any, page: Page) -> None:
    place = server.site / "cases" / "drafted" / "order.toml"
    site_server.make_case(server.site, "drafted")
    text = (server.site / "cases" / CASE / "order.toml").read_text().replace(CASE, "drafted").split("[parameters]")[0]
    place.write_text(text)
    sign_in(page, server, "engineer")
    page.goto("/review/drafted")
    page.get_by_label("wall_mm").fill("3.25")
    place.write_text(text + "\n[parameters]\nescape_hole_mm = 6.0\n")  # by another engineer
    page.goto("/review/drafted")
    expect(page.get_by_label("wall_mm")).to_have_value("3.25")
    expect(page.get_by_label("escape_hole_mm")).to_have_value("6")
    page.get_by_label("wall_mm").fill("2.5")
    page.wait_for_function("sessionStorage.length === 0")  # as it was: nothing is left to keep


def test_a_draft_is_of_whoever_typed_it(server: Any, page: Page) -> None:
    drafted_case(server, "shared")
    for role, found, text in (
        ("engineer", "", "a reason of one"),
        ("approver", "", "of another"),
        ("engineer", "a reason of one", ""),
    ):
        sign_in(page, server, role)
        page.goto("/review/shared")
        comment = page.get_by_label("A comment on this device")
        assert comment.input_value() == found
        comment.fill(text)
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_ticks_outlive_what_else_is_sent_from_the_page_but_not_their_device_and_no_password_is_kept(
    server: Any, page: Page
) -> None:
    drafted_case(server, "ticked")
    sign_in(page, server, "approver")
    page.goto("/review/ticked")
    ticks = page.locator("form[data-draft=answer] input:is([type=radio], [type=checkbox])")
    on = "all => all.map((one) => one.checked)"
    marked = [False, True, False, True, True, True, False, False]  # to return; three of four points, not the box for a release
    for n in np.flatnonzero(marked):
        ticks.nth(int(n)).check()
    assert ticks.evaluate_all(on) == marked
    page.locator("form[data-draft=answer]").get_by_label("Password again").fill(site_server.PASSWORD)
    page.evaluate("window.stays = true")
    page.get_by_label("A comment on this device").fill("a comment")
    page.get_by_role("button", name="Send the comment").click()
    expect(page.locator(".comments li")).to_contain_text("a comment")
    assert page.evaluate("window.stays")
    assert ticks.evaluate_all(on) == marked
    assert site_server.PASSWORD not in page.evaluate("JSON.stringify(sessionStorage)")
    page.reload()
    assert ticks.evaluate_all(on) == marked
    case = CaseFolder(server.site / "cases" / "ticked")
    checked = CheckedDevice(Device("anatomical-model", ()), (judge("mesh", "another", 0.0, "", high=0.0),))
    told = {"seconds": 1.0, "started": "2026-01-01T00:00:00+00:00", "taken": {}, "findings": codec.flatten(checked.findings)[0]}
    case.publish("check", lambda into: {**told, "value_digest": codec.save(checked, into)})
    page.reload()
    assert not any(ticks.evaluate_all(on))  # they were for the device before
    assert page.evaluate("sessionStorage.length") == 0


def test_what_is_approved_or_about_to_change_takes_no_other_answer(server: Any) -> None:
    site_server.make_case(server.site, "locked", released=True)
    folder = server.site / "cases" / "locked"
    (folder / "order.toml").write_text((server.site / "cases" / CASE / "order.toml").read_text().replace(CASE, "locked"))
    order = order_digest(read_case_order(folder / "order.toml"))
    given = {"order": order, "wall_mm": "3.25"}
    for gone, status in ((None, "done"), ("job", "in-progress")):  # released; signed, and being sliced
        if gone is not None:
            shutil.rmtree(folder / gone)
        answer = server.ask("POST", "/review/locked/design", "engineer", data=given)
        assert (answer.status_code, f"the case is {status}" in answer.text) == (409, True), answer.text
    shutil.rmtree(folder / "review")
    (folder / "revisions").mkdir()
    (folder / "revisions" / "standing.json").write_text(json.dumps({"order": "another", "revision": 1}))
    device = server.services.cases.view("locked").device
    signed = {"answer": "approve", "seen": "yes", "device": device, "password": site_server.PASSWORD}
    answer = server.ask("POST", "/review/locked/answer", "approver", data=signed)
    assert (answer.status_code, "not made yet" in answer.text) == (409, True), answer.text
    (folder / "revisions" / "standing.json").write_text(json.dumps({"order": order, "revision": 1}))
    assert server.ask("POST", "/review/locked/design", "engineer", data=given | {"wall_mm": "2.50"}).status_code == 422
    assert server.ask("POST", "/review/locked/design", "engineer", data=given).status_code == 303
    assert read_case_order(folder / "order.toml").parameters.model_dump()["wall_mm"] == 3.25


def test_a_hospital_sees_its_own_case_without_findings_and_forms(server: Any, page: Page, tmp_path: Path) -> None:
    site_server.make_case(server.site, "own", hospital="H-7")
    sign_in(page, server, "hospital", "H-7")
    assert page.locator("tbody th a").all_inner_texts() == ["own"]
    page.get_by_role("link", name="own").click()
    expect(page.get_by_role("heading", name="What happened")).to_be_visible()
    assert access.faults(page) == []
    for heading in ("Findings", "Change", "Plan", "Sign"):
        assert page.get_by_role("heading", name=heading, exact=True).count() == 0
    page.get_by_label("A comment on this device").fill(f"too thick {SCRIPT}")
    page.get_by_role("button", name="Send the comment").click()
    expect(page.locator(".comments li")).to_contain_text(f"hospital-H-7 too thick {SCRIPT}")  # as text
    assert page.get_by_label("A comment on this device").input_value() == ""
    page.get_by_role("link", name="Order", exact=True).click()
    page.get_by_label("Family").select_option("anatomical-model")
    page.get_by_role("button", name="Choose").click()
    page.get_by_label("Case code").fill("by-form")
    page.get_by_label("Due, with zone").fill("tomorrow")
    page.get_by_label("Prescriber's code").fill("code-17")
    page.get_by_label("What is prescribed").fill(SCRIPT)
    page.get_by_role("button", name="Check and write it").click()
    expect(page.locator("#notice")).to_contain_text("ISO 8601")
    page.get_by_label("Due, with zone").fill("2026-11-24T08:00:00Z")
    page.get_by_label("wall_mm").fill("3.25")
    picture(page, tmp_path, "order")
    page.get_by_role("button", name="Check and write it").click()
    with page.expect_download() as given:
        page.get_by_role("link", name="Download by-form.toml").click()
    order = read_case_order(Path(given.value.path()))
    assert (order.case, order.parameters.model_dump()["wall_mm"]) == ("by-form", 3.25)
    assert order.prescription is not None
    assert order.prescription.characteristics == SCRIPT
    (server.site / "cases" / "own" / "order.toml").write_text(order_text(order).replace("by-form", "own"))
    page.goto("/review/own/label")
    page.emulate_media(media="print")
    expect(page.get_by_role("region", name="Label")).to_be_visible()
    expect(page.get_by_role("banner")).to_be_hidden()
    picture(page, tmp_path, "label")
    answer = page.goto(f"/review/{CASE}")
    assert answer is not None
    assert answer.status == 404
    expect(page.get_by_text("there is no such case")).to_be_visible()
    assert access.faults(page) == []


def test_an_admin_makes_an_account_and_whoever_gets_it_changes_the_password_first(server: Any, page: Page) -> None:
    sign_in(page, server, "admin")
    page.get_by_role("link", name="Accounts").click()
    page.get_by_label("Name").fill("new-engineer")
    page.locator("select[name=role]").select_option("hospital")
    page.get_by_role("button", name="Make it").click()
    expect(page.locator("#notice")).to_contain_text("role hospital is given")
    page.locator("select[name=role]").select_option("engineer")
    page.get_by_role("button", name="Make it").click()
    once = page.locator("code").inner_text()
    expect(page.get_by_role("row", name=re.compile("new-engineer"))).to_contain_text("one-time password")
    assert access.faults(page) == []
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()  # the page before it has a field Name too
    page.get_by_label("Name").fill("new-engineer")
    page.get_by_label("Password").fill(once)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Another password")).to_be_visible()
    page.goto("/")
    expect(page.get_by_role("heading", name="Another password")).to_be_visible()  # nothing before that
    assert access.faults(page) == []
    page.get_by_label("Present password").fill(once)
    page.get_by_label("New password", exact=True).fill("another long password")
    page.get_by_label("New password again").fill("another long password")
    page.get_by_role("button", name="Change it").click()
    page.get_by_label("Name").fill("new-engineer")
    page.get_by_label("Password").fill("another long password")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Cases")).to_be_visible()


def test_forms_of_other_sites_frames_and_strange_ways_back_are_refused(server: Any) -> None:
    given = {"name": server.person("engineer"), "password": site_server.PASSWORD}
    with httpx.Client(base_url=server.url) as other:
        foreign = other.post("/sign-in", data=given, headers={"Origin": "http://elsewhere.example"})
        assert foreign.status_code == 403
        assert "set-cookie" not in foreign.headers
        assert other.post("/sign-in", data=given).status_code == 403  # no browser leaves the origin out
        own = {"Origin": server.url}
        for strange in ("//elsewhere.example", "https://elsewhere.example", "/\\elsewhere.example", "/\nSet-Cookie: a=b"):
            answer = other.post("/sign-in", data=given | {"next": strange}, headers=own)
            assert (answer.status_code, answer.headers["location"]) == (303, "/")
        secret = answer.cookies[COOKIE]
        again = other.post("/sign-in", data=given, headers=own | {"Cookie": f"{COOKIE}={secret}"})
        assert again.cookies[COOKIE] != secret  # a session is never taken over from before
        session = {"Cookie": f"{COOKIE}={secret}"}
        of_case = [f"/review/{CASE}/{what}" for what in ("design", "waive", "answer", "plan", "comment")]
        for path in (*of_case, "/orders/new", "/password", "/sign-out"):
            assert other.post(path, headers=session | own).status_code == 403  # without the token of the session
            assert other.post(path, headers=session | {"Origin": "http://elsewhere.example"}).status_code == 403
        page = other.get("/", headers=session)
        policy = page.headers.get_list("content-security-policy")
        assert len(policy) == 1
        assert "frame-ancestors 'none'" in policy[0]
        assert "unsafe" not in policy[0]
        assert page.headers["x-content-type-options"] == "nosniff"
        assert other.get("/", headers={"Accept": "text/html"}).headers["location"] == "/sign-in?next=/"
        script = other.get("/static/pages.js")
        again = other.get("/static/pages.js", headers={"If-None-Match": f'"other", W/{script.headers["etag"]}'})
        assert (script.status_code, again.status_code, again.content) == (200, 304, b"")
        for name in ("README.md", "..%2fapp.py", "%2e%2e"):
            assert other.get(f"/static/{name}").status_code == 404
