"""Pages beside the viewer: an order that is written in a form, reports, a plan moved in 3D Slicer, comments and labels."""

from __future__ import annotations

import html
import json
import re
import shutil
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import site_server
import viewer_case
from small_job import make_job
from typer.testing import CliRunner

from batchone.design.families import load_families
from batchone.pipeline import codec
from batchone.pipeline.case import record_event
from batchone.pipeline.case_answers import reject_case, return_case
from batchone.pipeline.case_approval import sign_case
from batchone.pipeline.case_comments import MOST_CHARACTERS, MOST_COMMENTS, comments_of
from batchone.pipeline.case_decisions import decide
from batchone.pipeline.case_order import order_digest, read_case_order
from batchone.pipeline.cli import app
from batchone.pipeline.commands.order_new import validated_order
from batchone.pipeline.job.manifest import read_manifest
from batchone.pipeline.job.report_rows import build_rows
from batchone.pipeline.markups.moved import moved
from batchone.pipeline.markups.write import write_markups
from batchone.pipeline.order import order_text, parse_order
from batchone.pipeline.serve.edge import MOST_BODY_BYTES, MOST_PLAN_BYTES
from batchone.pipeline.serve.pages.compared import paired
from batchone.pipeline.store import CaseFolder
from batchone.pipeline.values import Axis, CheckedDevice, Curve, Device, Plan, Plane, judge

SCRIPT = "<script>alert('x')</script>"
DEVICE = "pedicle-guide"
HEAD = {"case": "case-7", "side": "left", "due": "2026-11-24T08:00:00Z", "process": "pa12-sls", "machine": "sim-01"}
AXIS = Axis("t9-left", (31.0, -12.0, 104.0), (0.6, 0.0, 0.8), 40.0)
PLAN = Plan(
    DEVICE, True, "left", axes=(AXIS,), planes=(Plane("level", (0.0, 0.0, 3.0), (0.0, 0.0, 1.0)),),
    curves=(Curve("rim", np.array([[10.0, 20.0, 30.0], [-10.0, 0.0, 30.0], [0.0, -20.0, 31.0]]), True),),
)  # fmt: skip


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with site_server.serving(tmp_path_factory.mktemp("desk") / "site") as found:
        yield found


def make_case(server: Any, case: str) -> Path:
    """A case of a pedicle guide with an order and a plan."""
    folder = site_server.make_case(server.site, case)
    given = {**HEAD, "device": DEVICE, "case": case}
    order = validated_order(given, {}, {}, load_families()[DEVICE], server.site)
    (folder / "order.toml").write_text(order_text(order))
    (folder / "plan").mkdir()
    (folder / "plan" / "stage.json").write_text('{"seconds": 1.0}')
    (folder / "plan" / "plan.mrk.json").write_bytes(write_markups(PLAN))
    return folder


def put(server: Any, case: str, data: bytes, do: str, role: str = "engineer", name: str = "plan.mrk.json") -> Any:
    order = order_digest(read_case_order(server.site / "cases" / case / "order.toml"))
    files = {"file": (name, data, "application/json")}
    return server.ask("POST", f"/review/{case}/plan", role, data={"order": order, "do": do}, files=files)


def say(server: Any, case: str, text: str, role: str = "hospital", *, hospital: str = "H-1", device: str | None = None) -> Any:
    """Comment on the device that the case holds, or on that of a digest."""
    seen = server.services.cases.view(case).device if device is None else device
    return server.ask("POST", f"/review/{case}/comment", role, hospital, data={"text": text, "device": seen})


@pytest.mark.parametrize("device", sorted(load_families()))
def test_the_form_of_an_order_has_every_parameter_with_unit_limits_default_and_source(server: Any, device: str) -> None:
    page = html.unescape(server.ask("GET", f"/orders/new?device={device}", "hospital").text)
    for name, field in load_families()[device].parameters.model_json_schema()["properties"].items():
        assert f'name="{name}"' in page
        assert f'for="p-{name}"' in page
        assert f'aria-describedby="d-{name}"' in page
        if "minimum" in field and "maximum" in field:
            assert f"{field['minimum']:g} to {field['maximum']:g}" in page
    assert "source: " in page


def test_an_order_from_the_form_is_the_one_that_the_command_writes(server: Any) -> None:
    typed = {"device": DEVICE, **HEAD, "prescriber": "code-17", "characteristics": f"two levels {SCRIPT}", "bones": "T9, T10"}
    typed |= {"level_confirmed_by": "code-17", "instrument.drill_mm": "3.2", "contact_offset_mm": "0.3"}
    answer = server.ask("POST", "/orders/new", "hospital", data=typed)
    assert answer.status_code == 200, answer.text
    link = re.search(r'href="data:application/toml;charset=utf-8,([^"]*)" download="case-7.toml"', answer.text)
    assert link is not None
    data = tomllib.loads(unquote(html.unescape(link[1])))
    order = parse_order(data, {DEVICE: load_families()[DEVICE].parameters})
    assert order.parameters.model_dump()["contact_offset_mm"] == 0.3
    command = ["order", "new", DEVICE, "--case", "case-7", "--side", "left", "--due", HEAD["due"], "--process", HEAD["process"]]
    command += ["--machine", HEAD["machine"], "--prescriber", "code-17", "--characteristics", f"two levels {SCRIPT}"]
    command += ["--bone", "T9", "--bone", "T10", "--level-confirmed-by", "code-17", "--drill-mm", "3.2"]
    command += ["--set", "contact_offset_mm=0.3", "--site", str(server.site)]
    written = CliRunner().invoke(app, command)
    assert (written.exit_code, written.stdout) == (0, unquote(html.unescape(link[1])))
    assert (order.target.bones, order.target.level_confirmed_by) == (("T9", "T10"), "code-17")
    assert order.instruments.drill_mm == 3.2
    assert order.prescription is not None
    assert order.prescription.characteristics == f"two levels {SCRIPT}"
    assert SCRIPT not in answer.text


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"contact_offset_mm": "9"}, "contact_offset_mm is 9 mm"),
        ({"contact_offset_mm": SCRIPT}, "contact_offset_mm"),
        ({"case": ""}, "case of the order: empty"),
        ({"case": "../x"}, "case"),
        ({"due": "tomorrow"}, "ISO 8601"),
        ({"side": "both"}, "side"),
        ({"instrument.drill_mm": "thick"}, "must be a number"),
        ({"process": "ti64"}, "ti64"),
        ({"device": "no such"}, "known devices"),
    ],
)
def test_what_no_order_may_say_is_refused_by_name(server: Any, changed: dict[str, str], told: str) -> None:
    headers = {"HX-Request": "1", "Accept": "text/html"}
    page = server.ask("POST", "/orders/new", "engineer", data={"device": DEVICE, **HEAD, **changed}, headers=headers)
    assert page.status_code in (409, 422), page.text
    assert told in html.unescape(page.text)
    assert SCRIPT not in page.text


def test_the_report_of_a_job_is_a_page_and_two_papers_for_those_who_may_see_the_job(server: Any) -> None:
    folder = make_case(server, "reported")
    job = folder / "revisions" / "0001" / "job" / site_server.JOB
    job.parent.mkdir(parents=True)
    made = server.site.parent / "made"
    make_job(made, server.site.parent / "job-keys", "pa12-sls")
    shutil.copytree(made, job)
    kept = {"made": "2026-01-01T00:00:00", "device": "d", "order": "o", "findings": {"$tuple": []}}
    (folder / "revisions" / "0001" / "revision.json").write_text(json.dumps(kept))
    path = f"/review/reported/report/{site_server.JOB}"
    page = server.ask("GET", path, "engineer")
    assert page.status_code == 200, page.text
    assert "This job was withdrawn" in page.text
    assert "(<strong>withdrawn</strong>)" in server.ask("GET", "/review/reported", "engineer").text
    text = html.unescape(page.text)
    manifest = read_manifest((job / "job.json").read_bytes())
    rows = build_rows(manifest, {})
    for name in ("order", "approval", "figures", "estimate"):
        assert all(cell in text for row in rows[name] for cell in row), name
    assert all(cell in text for row in rows["parts"] for cell in row)
    assert all(one in text for one in manifest.after_printing)
    picture = server.ask("GET", f"{path}/bone-front.png", "engineer")
    assert (picture.content, picture.headers["cache-control"]) == (b"picture", "no-store")
    for name in ("build-report.pdf", "clinical-report.pdf"):
        paper = server.ask("GET", f"{path}/{name}", "engineer")
        assert (paper.content, paper.headers["content-disposition"]) == (
            b"report", f'attachment; filename="reported-{site_server.JOB}-{name}"',
        )  # fmt: skip
    assert f"{path}/clinical-report.pdf" in server.ask("GET", "/review/reported", "engineer").text
    assert server.ask("GET", path, "hospital").status_code == 404  # withdrawn: not what it may use
    for name in ("job.json", "..%2f..%2fjob.png", "no-such.png", "SHA256SUMS.sig"):
        assert server.ask("GET", f"{path}/{name}", "engineer").status_code in (404, 422)
    site_server.make_case(server.site, "own-job", released=True)
    for hospital, status in (("H-1", 200), ("H-2", 404)):
        answer = server.ask("GET", f"/review/own-job/report/{site_server.JOB}/clinical-report.pdf", "hospital", hospital)
        assert answer.status_code == status


def test_a_job_that_a_decision_withdrew_where_it_lies_is_told_so(server: Any) -> None:
    folder = make_case(server, "ended")
    job = folder / "job" / site_server.JOB
    make_job(job, server.site.parent / "ended-keys", "pa12-sls")
    path = f"/review/ended/report/{site_server.JOB}"
    for what in ("valid", "cancelled"):
        if what == "cancelled":
            decide(server.site, "ended", "cancel", who="eva", reason="too late", passphrase=site_server.PASSWORD)
        assert job.is_dir()
        told = [server.ask("GET", place, "engineer").text for place in (path, "/review/ended")]
        assert ["This job was withdrawn" in told[0], "(<strong>withdrawn</strong>)" in told[1]] == [what == "cancelled"] * 2
        assert f"{path}/build-report.pdf" in told[1]


def test_an_approved_order_stays_whatever_came_of_its_device(server: Any) -> None:
    folder = make_case(server, "signed")
    before = (folder / "order.toml").read_bytes()
    device = server.services.cases.view("signed").device
    sign_case(server.site, "signed", who="eva", device=device, passphrase=site_server.PASSWORD, ticked=None)
    record_event(CaseFolder(folder), "batchone", "slice failed: no way up")
    assert server.services.cases.view("signed").status == "failed"
    order = order_digest(read_case_order(folder / "order.toml"))
    answer = server.ask("POST", "/review/signed/design", "engineer", data={"order": order, "contact_offset_mm": "0.3"})
    assert (answer.status_code, "revise it first" in answer.text) == (409, True), answer.text
    assert put(server, "signed", write_markups(PLAN), "take").status_code == 409
    assert (folder / "order.toml").read_bytes() == before
    assert server.ask("GET", "/review/signed", "engineer").text.count("<fieldset disabled>") == 2
    decide(server.site, "signed", "revise", who="eva", reason="thinner", passphrase=site_server.PASSWORD)
    changed = server.ask("POST", "/review/signed/design", "engineer", data={"order": order, "contact_offset_mm": "0.3"})
    assert changed.status_code == 303, changed.text


def test_a_moved_plan_is_told_in_numbers_and_then_is_a_change_of_the_order(server: Any) -> None:
    folder = make_case(server, "planned")
    given = server.ask("GET", "/review/planned/plan.mrk.json", "engineer")
    assert given.content == write_markups(PLAN)
    same = put(server, "planned", given.content, "show")
    assert same.text.count("as before") == 3
    assert not [told for told in ("Left out", "does not hold") if told in same.text]
    tree = json.loads(given.content)
    for point in tree["markups"][0]["controlPoints"]:  # 3D Slicer saves in RAS where it is told to
        x, y, z = point["position"]
        point["position"] = [-(x + 3.0), -y, z + 4.0]
    tree["markups"][0]["coordinateSystem"] = "RAS"
    shown = put(server, "planned", json.dumps(tree).encode(), "show")
    assert shown.status_code == 200, shown.text
    row = re.search(r"<tr><th scope=\"row\">line t9-left.*?</tr>", shown.text, re.DOTALL)
    assert row is not None
    cells = [cell.strip() for cell in re.findall(r"<td[^>]*>(.*?)</td>", row[0], re.DOTALL)]
    assert cells[:2] == ["5.00", "0.00"]  # 3 and 4 mm, not turned and not mirrored
    assert cells[2].startswith("31.00 -12.00 104.00 to ")
    assert cells[3].startswith("34.00 -12.00 108.00 to ")
    assert read_case_order(folder / "order.toml").plan.lines == ()  # shown, and nothing more
    taken = put(server, "planned", json.dumps(tree).encode(), "take")
    assert "under way" in taken.text
    (line,) = read_case_order(folder / "order.toml").plan.lines
    np.testing.assert_allclose(line.start_mm, (34.0, -12.0, 108.0), atol=1e-6)
    np.testing.assert_allclose(np.subtract(line.end_mm, line.start_mm), 40.0 * np.array(AXIS.direction), atol=1e-6)
    last = json.loads((folder / "events.jsonl").read_text().splitlines()[-1])
    assert (last["who"], last["what"]) == ("engineer", "order changed")
    again = put(server, "planned", json.dumps(tree).encode(), "take")
    assert (again.status_code, "nothing differs" in again.text) == (422, True)


def test_a_plan_that_may_not_be_taken_is_refused_and_changes_nothing(server: Any) -> None:
    folder = make_case(server, "refused")
    before = (folder / "order.toml").read_bytes()
    plan: dict[str, Any] = json.loads(write_markups(PLAN))
    plan["markups"][0]["coordinateUnits"] = "cm"
    hostile = json.loads(write_markups(PLAN))
    hostile["markups"][0]["name"] = SCRIPT
    for data, told in (
        (json.dumps(plan).encode(), "must be LPS or RAS in mm"),
        (b"\xff\xfe not json", "no"),
        (b'{"markups": []}', "0 placed"),
        (b"[" * 100_000, "JSON"),
        (b"", "no file was given"),
    ):
        answer = put(server, "refused", data, "take")
        assert (answer.status_code, told in answer.text) == (422, True), answer.text
    assert put(server, "refused", b" " * (MOST_PLAN_BYTES + 1), "take").status_code == 413
    assert put(server, "refused", json.dumps(hostile).encode() + b" " * MOST_BODY_BYTES, "show").status_code == 200
    told = put(server, "refused", json.dumps(hostile).encode(), "show", name=f"../{SCRIPT}.json")
    assert (told.status_code, SCRIPT in told.text, html.escape(SCRIPT, quote=False)[:10] in told.text) == (200, False, True)
    stale = {"order": "0" * 64, "do": "take"}
    files = {"file": ("plan.mrk.json", write_markups(PLAN), "application/json")}
    assert server.ask("POST", "/review/refused/plan", "engineer", data=stale, files=files).status_code == 409
    assert (folder / "order.toml").read_bytes() == before


def test_what_a_plan_lacks_and_what_is_left_out_of_it_is_told(server: Any) -> None:
    make_case(server, "lacking")
    tree = json.loads(write_markups(PLAN))
    line, *others = tree["markups"]
    unplaced = {**line, "controlPoints": [{**point, "positionStatus": "undefined"} for point in line["controlPoints"]]}
    answer = put(server, "lacking", json.dumps({**tree, "markups": [*others, unplaced, {"type": "ROI"}]}).encode(), "show")
    assert answer.status_code == 200, answer.text
    assert "they were not placed: 1 Line, 1 ROI." in answer.text
    assert "does not hold line t9-left: what" in answer.text


@pytest.mark.parametrize(
    ("file", "named", "told"),
    [
        ("named.t9-left.mrk.json", False, "line t9-left"),
        ("a-named.b.mrk.json", False, "line a-named.b"),  # only what stands before the name is taken off
        ("T9 left.json", False, "line T9 left"),
        ("../t9-left.mrk.json", False, "has no name"),
        ("t9\u202eleft.mrk.json", False, "has no name"),
        (f"{'x' * 200}.json", False, "has no name"),
        ("../t9-left.mrk.json", True, "line t9-left"),
        ("named.plan.mrk (1).json", True, "line t9-left"),
        ("other.plan.mrk.json", True, "the plan of other, not of named"),
        ("other.named.plan.mrk (2).json", True, "the plan of other.named, not of named"),
    ],
)
def test_a_markup_is_called_as_its_file_or_refused_and_never_otherwise(server: Any, file: str, named: bool, told: str) -> None:
    if not (server.site / "cases" / "named").exists():
        make_case(server, "named")
    tree = json.loads(write_markups(PLAN))
    line = tree["markups"][0] if named else {key: value for key, value in tree["markups"][0].items() if key != "name"}
    answer = put(server, "named", json.dumps({**tree, "markups": [line]}).encode(), "show", name=file)
    assert (answer.status_code, told in answer.text) == (200 if told.startswith("line") else 422, True), answer.text


def test_the_distance_and_the_turn_of_what_was_moved_are_those_of_geometry() -> None:
    line = {"name": "a", "start_mm": [0.0, 0.0, 0.0], "end_mm": [10.0, 0.0, 0.0]}
    plane = {"name": "p", "origin_mm": [0.0, 0.0, 0.0], "normal": [0.0, 0.0, 1.0]}
    after = {
        "lines": [{**line, "end_mm": [0.0, 10.0, 0.0]}],
        "planes": [{**plane, "normal": [0.0, 0.0, -1.0]}, {**plane, "name": "q"}],
    }
    turned, flipped, new = moved({"lines": [line], "planes": [plane]}, after)
    assert (turned.shift_mm, turned.turn_deg) == (pytest.approx(10.0 * 2.0**0.5), pytest.approx(90.0))
    assert (flipped.shift_mm, flipped.turn_deg) == (0.0, pytest.approx(180.0))
    assert not flipped.same
    assert (new.shift_mm, new.before) == (None, "")
    assert all(one.same for one in moved({"lines": [line]}, {"lines": [line]}))


def test_a_hospital_comments_on_its_own_device_and_changes_nothing(server: Any) -> None:
    folder = make_case(server, "said")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "events.jsonl"}
    said = f"too near the nerve {SCRIPT}"
    assert say(server, "said", said).status_code == 303
    assert say(server, "said", said, hospital="H-2").status_code == 404
    for text in ("", " \n ", "x" * (MOST_CHARACTERS + 1), "a\x00b", "a\u202eb"):
        assert say(server, "said", text).status_code == 422
    assert say(server, "said", "approved", "engineer").status_code == 303
    for device in ("", "0" * 64):  # another one than the case holds: its author looked at something else
        answer = say(server, "said", "of another device", device=device)
        assert (answer.status_code, "look at it again" in answer.text) == (409, True), answer.text
    found = comments_of(server.services.cases.events("said"))
    assert [(one["who"], one["text"]) for one in found] == [("hospital-H-1", said), ("engineer", "approved")]
    assert {one["device"] for one in found} == {server.services.cases.view("said").device}
    assert server.services.cases.view("said").status == "awaiting-approval"
    page = server.ask("GET", "/review/said", "engineer").text
    assert SCRIPT not in page
    assert html.escape(SCRIPT, quote=False)[:14] in page
    after = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "events.jsonl"}
    assert {path.name for path in set(after) - set(before)} <= {"lock"} | {
        path.name for path in after if path.name.startswith(".")
    }
    assert all(after[path] == data for path, data in before.items())


def test_a_comment_leaves_every_state_as_it_was(server: Any) -> None:
    case = CaseFolder(make_case(server, "left"))
    for answer, status in ((return_case, "returned"), (reject_case, "rejected")):
        answer(case, who="eva", why="too thick", passphrase=site_server.PASSWORD)
        assert server.services.cases.view("left").status == status
        assert say(server, "left", "returned: no").status_code == 303
        view = server.services.cases.view("left")
        assert (view.status, view.tree["returned"]) == (status, "too thick")


def test_a_case_holds_so_many_comments_and_no_more(server: Any) -> None:
    folder = make_case(server, "full")
    device = server.services.cases.view("full").device
    for n in range(MOST_COMMENTS - 1):
        record_event(CaseFolder(folder), "h", f"commented: no {n}", digest=device)
    assert say(server, "full", "the last one").status_code == 303
    answer = say(server, "full", "one more")
    assert (answer.status_code, f"has {MOST_COMMENTS} comments, at most {MOST_COMMENTS}" in answer.text) == (409, True)
    assert len(comments_of(server.services.cases.events("full"))) == MOST_COMMENTS


def test_the_label_says_case_device_side_and_due_and_no_more(server: Any) -> None:
    make_case(server, "labelled")
    page = server.ask("GET", "/review/labelled/label?size=roll", "hospital")
    text = re.sub(r"<[^>]*>", " ", page.text.partition('<section class="label roll"')[2])
    assert all(word in text for word in ("labelled", DEVICE, "left", "24 Nov 2026 08:00"))
    assert server.ask("GET", "/review/labelled/label", "hospital", "H-2").status_code == 404
    assert server.ask("GET", "/review/labelled/label?size=wall", "hospital").status_code == 422
    style = server.ask("GET", "/static/label.css").text
    assert "@page roll { size: 62mm 100mm" in style
    assert "@page a6 { size: A6" in style


def test_a_hospital_looks_at_its_own_device_in_3d_and_at_no_other(server: Any) -> None:
    folder = viewer_case.write_case(server.site / "cases").path
    shutil.copyfile(site_server.make_case(server.site, "another") / "parcel.json", folder / "parcel.json")
    (folder / "order.toml").write_bytes((make_case(server, "ordered") / "order.toml").read_bytes())
    path = f"/review/{viewer_case.CASE}"
    scene = server.ask("GET", f"{path}/scene", "hospital")
    assert scene.status_code == 200, scene.text
    full = server.ask("GET", f"{path}/scene", "engineer")
    assert (len(full.json()["findings"]), scene.json()) == (2, full.json() | {"findings": []})
    assert server.ask("GET", f"{path}/scene", "hospital").content == scene.content  # each role is kept apart
    tag = {"If-None-Match": full.headers["etag"]}
    assert [server.ask("GET", f"{path}/scene", role, headers=tag).status_code for role in ("engineer", "hospital")] == [304, 200]
    assert server.ask("GET", f"{path}/volume", "hospital").status_code == 200
    for part in ("scene", "volume", "surface/part-letter", "section/bore-1"):
        assert server.ask("GET", f"{path}/{part}", "hospital").status_code == 200
        assert server.ask("GET", f"{path}/{part}", "hospital", "H-2").status_code == 404
        assert server.ask("GET", f"{path}/{part}", "cell").status_code == 403
        assert server.ask("POST", f"{path}/{part}", "hospital").status_code == 405


def test_findings_of_two_revisions_stand_beside_each_other_though_their_words_hold_other_numbers(server: Any) -> None:
    folder = make_case(server, "compared")
    wide, slip = "rim: widest gap along it, 95 % (50 %: {} mm; bone {} %, printing {} %)", "plate: slide per mm of gap, worst: {}"
    off = "{}: off at the target, 95 % (50 %: {} mm; seat 80 %)"
    tilt, bore = "t9-left: tilt that the clearance of {} mm allows over {} mm", judge("bore", "t9-left", 3.0, "mm", high=3.5)
    first = (
        judge("budget", wide.format("0.52", 60, 40), 0.9, "mm", high=1.0),
        judge("budget", off.format("t8-left", "0.20"), 0.5, "mm", high=2.0),
        judge("budget", off.format("t9-left", "0.80"), 1.5, "mm", high=2.0),
        judge("budget-clearance", tilt.format("0.2", "20.0"), 1.0, "deg", high=1.5),
        judge("seating-slip", slip.format("front"), 3.0, "mm/mm", high=8.0),
        judge("label", 'plate: characters of the label "A-1" that do not read so', 0.0, "", high=0.0),
        bore,
    )
    second = (
        judge("budget", off.format("t9-left", "0.70"), 1.25, "mm", high=2.0),  # t8-left is planned no more, t10-left is new
        judge("budget", off.format("t10-left", "0.20"), 0.75, "mm", high=2.0),
        judge("budget", wide.format("0.61", 70, 30), 1.12, "mm", high=1.0),
        judge("budget-clearance", tilt.format("0.25", "18.5"), 1.5, "deg", high=1.5),
        judge("seating-slip", slip.format("left"), 3.5, "mm/mm", high=8.0),
        judge("label", 'plate: characters of the label "A-2" that do not read so', 0.0, "", high=0.0),
        bore,
    )
    for number, found in enumerate((first, second), start=1):
        kept = folder / "revisions" / f"{number:04d}"
        kept.mkdir(parents=True)
        shutil.copyfile(folder / "order.toml", kept / "order.toml")
        told = {"made": "2026-01-01T00:00:00+00:00", "device": "d" * 64, "order": "o", "findings": codec.flatten(found)[0]}
        (kept / "revision.json").write_text(json.dumps(told))
    page = server.ask("GET", "/review/compared/compare?a=1&b=2", "engineer").text.partition("<h2>Findings</h2>")[2]
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall("<tr>(.*?)</tr>", page, re.DOTALL)[1:]]
    rows = [[" ".join(re.sub(r"<[^>]*>", "", html.unescape(one)).split()) for one in row[1:]] for row in cells]
    assert rows == [
        [wide.format("0.61", 70, 30), "at most 1 mm", "pass 0.9 mm", "fail 1.12 mm", "+0.22 mm"],
        [off.format("t8-left", "0.20"), "at most 2 mm", "pass 0.5 mm", "–", "–"],
        [off.format("t9-left", "0.70"), "at most 2 mm", "pass 1.5 mm", "pass 1.25 mm", "-0.25 mm"],
        [tilt.format("0.25", "18.5"), "at most 1.5 deg", "pass 1 deg", "pass 1.5 deg", "+0.5 deg"],
        [slip.format("left"), "at most 8 mm/mm", "pass 3 mm/mm", "pass 3.5 mm/mm", "+0.5 mm/mm"],
        [off.format("t10-left", "0.20"), "at most 2 mm", "–", "pass 0.75 mm", "–"],
    ]


def test_rows_of_the_same_words_are_paired_by_their_order() -> None:
    found = [[judge("walls", f"wall of {mm} mm", value, "mm") for mm, value in zip((1.0, 2.0), values, strict=True)]
             for values in ((1.0, 2.0), (3.0, 4.0))]  # fmt: skip
    other = [replace(one, what=one.what.replace("wall of ", "wall of 0")) for one in found[1]]
    assert [one.change for one in paired(found[0], other)] == [2.0, 2.0]
    assert [(one.second, one.change) for one in paired(found[0], found[1][1:])] == [
        (None, None),
        (found[1][1], 2.0),
    ]  # same words
    assert [one.differs for one in paired(found[0], found[0])] == [False, False]
    turned = replace(found[0][0], unit="deg")
    assert [(one.differs, one.change) for one in paired(found[0][:1], [turned])] == [(True, None)]


def test_each_check_that_may_be_waived_is_offered_once_and_no_form_without_one(server: Any) -> None:
    case = CaseFolder(make_case(server, "waived"))
    walls, seat = (judge(check, "plate", 0.5, "mm", low=1.0) for check in ("walls", "seat"))
    for found, options in (
        (
            [replace(walls, waivable=True), replace(walls, waivable=True, value=0.4), replace(seat, waivable=True)],
            ["walls", "seat"],
        ),
        ([replace(walls, waivable=True), seat, judge("mesh", "plate", 0.0, "", high=0.0)], ["walls"]),
        ([walls], None),
    ):
        checked = CheckedDevice(Device(DEVICE, ()), tuple(found))

        def write(into: Path, checked: CheckedDevice = checked) -> dict[str, Any]:
            told = {"seconds": 1.0, "started": "2026-01-01T00:00:00+00:00", "findings": codec.flatten(checked.findings)[0]}
            return {**told, "taken": {}, "value_digest": codec.save(checked, into)}

        case.publish("check", write)
        page = server.ask("GET", "/review/waived", "engineer").text
        assert 'id="waive"' in page
        assert ('hx-post="/review/waived/waive"' in page) == (options is not None)
        assert ("Nothing of what failed may be waived" in page) == (options is None)
        if options is not None:
            assert sorted(re.findall("<option>([^<]*)</option>", page.partition('id="waive"')[2])) == sorted(options)
