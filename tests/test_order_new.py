"""`batchone order new`: what it asks, what it refuses and in which words, and that what it writes reads back."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from batchone.pipeline.case_order import read_case_order
from batchone.pipeline.commands.order_new import order_new
from batchone.pipeline.commands.parameter_table import faults, parameters_of_family
from batchone.pipeline.errors import InputError, OrderError
from batchone.samples.dicom import write_series

COMMAND = [sys.executable, "-m", "batchone.pipeline", "order", "new"]
DUE = "2026-11-24T08:00:00Z"
NEEDED = ("--case", "c1", "--side", "left", "--due", DUE)


def ordered(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=cwd)


def refusal(**changes: Any) -> OrderError:
    """What the command says when it refuses; in this process, which is quicker."""
    needed: dict[str, Any] = {"device": "cranial-implant", "case": "c1", "side": "left", "due": DUE}
    with pytest.raises(OrderError) as caught:
        order_new(**{**needed, **changes})
    return caught.value


def markups(path: Path, *curves: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"markups": list(curves)}))
    return path


def curve(kind: str = "ClosedCurve", system: str = "LPS", **more: Any) -> dict[str, Any]:
    points = [[10.0, 20.0, 30.0], [-10.0, 20.5, 30.0], [0.0, -20.0, 31.0]]
    controls = [{"position": point, "positionStatus": "defined"} for point in points]
    return {"type": kind, "coordinateSystem": system, "coordinateUnits": "mm", "controlPoints": controls, **more}


def test_the_written_order_reads_back_with_everything_that_was_given(tmp_path: Path) -> None:
    drawn = markups(tmp_path / "plan.mrk.json", curve(system="RAS"))
    flags = ("--process", "pa12-sls", "--prescriber", "code-1", "--characteristics", 'left "parietal"; flush', "--bone", "skull")
    flags += ("--level-confirmed-by", "code-2", "--drill-mm", "3.2", "--set", "border_gap_mm=0.4", "--set", "thickness_mode=bone")
    flags += ("--instrument", "saw_blade=blade-0.6")
    out = tmp_path / "order.toml"
    made = ordered("cranial-implant", *NEEDED, *flags, "--markups", str(drawn), "--out", str(out))
    assert made.returncode == 0, made.stderr
    order = read_case_order(out)
    assert (order.case, order.side, order.process, order.due.isoformat()) == (
        "c1",
        "left",
        "pa12-sls",
        "2026-11-24T08:00:00+00:00",
    )
    assert order.prescription is not None
    assert (order.prescription.prescriber, order.prescription.characteristics) == ("code-1", 'left "parietal"; flush')
    assert (order.target.bones, order.target.level_confirmed_by, order.instruments.drill_mm) == (("skull",), "code-2", 3.2)
    assert order.instruments.saw_blade == "blade-0.6"
    parameters = order.parameters.model_dump()
    assert (parameters["border_gap_mm"], parameters["thickness_mode"]) == (0.4, "bone")
    rim = order.plan.curve("rim")
    assert rim is not None
    assert rim.closed
    assert rim.points_mm == ((-10.0, -20.0, 30.0), (10.0, -20.5, 30.0), (0.0, 20.0, 31.0))  # RAS to LPS
    for shown in ("border_gap_mm", "0.3 to 1", "K121102"):
        assert shown in made.stderr


def test_the_json_document_follows_its_schema_and_is_all_of_stdout() -> None:
    made = ordered("anatomical-model", *NEEDED, "--json")
    tree = json.loads(made.stdout)
    schema = Path(sys.modules["batchone.pipeline.case"].__file__ or "").parent / "schemas" / "order-new.schema.json"
    jsonschema.validate(tree, json.loads(schema.read_text()))
    wall = next(one for one in tree["parameters"] if one["name"] == "wall_mm")
    assert (wall["unit"], wall["default"], wall["low"], wall["high"]) == ("mm", 2.5, 1.0, 8.0)
    assert "design guides" in wall["source"]
    assert tree["order"]["parameters"]["wall_mm"] == 2.5


def test_without_a_terminal_what_is_missing_is_named_by_its_flags() -> None:
    made = ordered("cranial-implant", "--side", "left")
    assert made.returncode == 2
    assert "--case, --due" in made.stderr
    assert "--side" not in made.stderr
    assert made.stdout == ""


def test_a_value_beyond_its_limit_is_refused_with_limit_and_source() -> None:
    text = str(refusal(changes=["border_gap_mm=1.1", "fixation_holes=17", "thickness_mode=thin", "engrave=3"]))
    assert "border_gap_mm is 1.1 mm, must be 0.3 to 1 mm (source: 0.3 to 1.0 mm, common design practice)" in text
    assert "fixation_holes is 17, must be 0 to 16 (source:" in text
    assert "thickness_mode is 'thin', must be constant or bone" in text
    assert "engrave is 3, must be true or false" in text


def test_values_at_their_limits_are_taken_and_just_beyond_are_not() -> None:
    from batchone.design.families import load_families

    for family in load_families().values():
        for one in (table := parameters_of_family(family.parameters)):
            for edge, step in ((one.low, -1e-6), (one.high, 1e-6)):
                if edge is not None:
                    assert faults(table, {one.name: edge}, family.name) == []
                    assert len(faults(table, {one.name: edge + step}, family.name)) == 1


def test_an_unknown_key_is_refused_by_name() -> None:
    text = str(refusal(changes=["border_gap=0.4"]))
    assert "parameter border_gap is unknown to cranial-implant; it has border_gap_mm" in text


def test_a_rule_between_parameters_is_kept_too() -> None:
    assert "bridges of 1.0 mm" in str(refusal(changes=["perforation_pitch_mm=3.0"]))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"device": "toy"}, "known devices: anatomical-model, cranial-implant"),
        ({"due": "2026-11-24T08:00:00"}, "without a zone"),
        ({"due": "tomorrow"}, "ISO 8601"),
        ({"side": "both"}, "side"),
        ({"case": "TEST ALPHA"}, "case"),
        ({"process": "magic"}, "known: cocr-lpbf, guide-resin"),
        ({"machine": "none"}, "known: sim-01"),
        ({"drill_mm": 40.0}, "instruments.drill_mm"),
        ({"named": ["drill=drill-3.2"], "drill_mm": 3.2}, "give drill or drill_mm, not both"),
        ({"named": ["hammer=large"]}, "instruments.hammer: unknown key"),
        ({"markups": ["absent.mrk.json"]}, "cannot be read"),
    ],
)
def test_what_cannot_be_ordered_is_refused(change: dict[str, Any], text: str) -> None:
    assert text in str(refusal(**change))


def test_a_file_that_is_there_is_overwritten_only_with_force(tmp_path: Path) -> None:
    out = tmp_path / "order.toml"
    out.write_text("mine")
    assert "already" in str(refusal(out=out))
    assert out.read_text() == "mine"
    order_new("cranial-implant", case="c1", side="left", due=DUE, out=out, force=True)
    assert read_case_order(out).case == "c1"


def test_a_plan_of_every_kind_is_taken_from_several_files(tmp_path: Path) -> None:
    """How each is read: ``test_markups.py``."""
    line = {"type": "Line", "controlPoints": [{"position": [1.0, 2.0, 3.0]}, {"position": [1.0, 2.0, 33.0]}]}
    flat = {"type": "Plane", "normal": [0.0, 0.0, 1.0], "controlPoints": [{"position": [4.0, 5.0, 6.0]}]}
    point = {"type": "Fiducial", "controlPoints": [{"label": "hinge", "position": [7.0, 8.0, 9.0]}]}
    several = markups(tmp_path / "rest.mrk.json", flat, point, curve(kind="Curve", name="cut"))
    out = tmp_path / "order.toml"
    drawn = [
        str(markups(tmp_path / "t9-left.mrk.json", line)),
        f"edge={markups(tmp_path / 'CC.mrk.json', curve())}",
        str(several),
    ]
    order_new("anatomical-model", case="c1", side="left", due=DUE, markups=drawn, out=out)
    plan = read_case_order(out).plan
    assert [[one.name for one in kind] for kind in (plan.lines, plan.planes, plan.points, plan.curves)] == [
        ["t9-left"],
        ["rest-1"],
        ["hinge"],
        ["edge", "cut"],
    ]


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A study that will do for a cranial implant, and one with slices too far apart."""
    folder = tmp_path_factory.mktemp("studies")
    rng = np.random.default_rng(5)
    hu = np.full((80, 64, 64), -1000, dtype=np.int16)
    hu[10:70, 16:48, 16:48] = 40
    hu[10:70, 20:30, 20:30] = 1200
    hu += rng.integers(-8, 9, hu.shape, dtype=np.int16)
    for name, step_mm in (("good", 0.7), ("coarse", 2.5)):
        affine = np.diag([0.5, 0.5, step_mm, 1.0])
        write_series(np.maximum(hu, -1024), affine, folder / name)
    return folder / "good", folder / "coarse"


def test_a_study_is_shown_and_one_that_fails_the_protocol_is_refused(studies: tuple[Path, Path], tmp_path: Path) -> None:
    good, coarse = studies
    out = tmp_path / "order.toml"
    made = ordered("cranial-implant", *NEEDED, "--study", str(good), "--out", str(out))
    assert made.returncode == 0, made.stderr
    assert "80" in made.stderr.split("Cranial implant: parameters")[0]
    assert read_case_order(out).target.bones == ()  # nothing is made up from the study
    refused = ordered("cranial-implant", *NEEDED, "--study", str(coarse), "--out", str(tmp_path / "other.toml"))
    assert refused.returncode == 2
    assert "not good enough for cranial-implant" in refused.stderr
    assert "2.5 mm" in refused.stderr
    assert not (tmp_path / "other.toml").exists()


def test_the_sites_settings_judge_the_study(studies: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BATCHONE_SITE", raising=False)
    (tmp_path / "strict").mkdir()
    (tmp_path / "strict" / "site.toml").write_text("[scan]\nmax_age_days = 1\n")
    needed = {"device": "cranial-implant", "case": "c1", "side": "left", "due": DUE, "study": studies[0]}
    order_new(**needed, out=tmp_path / "order.toml")
    with pytest.raises(InputError, match="age of the scan"):
        order_new(**needed, site=tmp_path / "strict")
    monkeypatch.setenv("BATCHONE_SITE", str(tmp_path / "strict"))
    with pytest.raises(InputError, match="age of the scan"):
        order_new(**needed)


def test_on_a_terminal_it_asks_and_asks_again_until_the_answer_will_do(tmp_path: Path) -> None:
    out = tmp_path / "order.toml"
    answers = ["TEST ALPHA", "c-7", "upwards", "right", "soon", DUE, "", "", "code-9", "", "skull", "", "", "3.2"]
    answers += ["border_gap_mm=7", "border_gap_mm=0.4", ""]
    shown = on_a_terminal([*COMMAND, "cranial-implant", "--out", str(out)], answers)
    order = read_case_order(out)
    assert (order.case, order.side, order.process) == ("c-7", "right", "ti64-lpbf")
    assert (order.target.bones, order.instruments.drill_mm) == (("skull",), 3.2)
    assert order.prescription is not None
    assert order.prescription.prescriber == "code-9"
    assert order.parameters.model_dump()["border_gap_mm"] == 0.4
    for refused in ("1 to 64 letters", "must be one of left, right, midline", "must be ISO 8601", "border_gap_mm is 7 mm"):
        assert refused in shown


def on_a_terminal(command: list[str], answers: list[str]) -> str:
    """Run a command on a terminal of its own, and answer each question that it asks; what was shown."""
    ours, theirs = pty.openpty()
    shown = ""
    with subprocess.Popen(
        command, stdin=theirs, stderr=theirs, stdout=subprocess.DEVNULL, env={**os.environ, "COLUMNS": "200"}
    ) as child:
        os.close(theirs)
        left, read, deadline_s = list(answers), 0, time.monotonic() + 60.0
        while time.monotonic() < deadline_s:
            if not select.select([ours], [], [], 0.2)[0]:
                if child.poll() is not None:
                    break
                continue
            try:
                shown += os.read(ours, 65536).decode(errors="replace")
            except OSError:  # the other end closed
                break
            if shown[read:].rstrip(" ").endswith(":") and left:
                read = len(shown)
                os.write(ours, (left.pop(0) + "\n").encode())
        try:
            child.wait(max(deadline_s - time.monotonic(), 0.0))
        finally:
            child.kill()
    os.close(ours)
    assert child.returncode == 0, shown
    assert not left, shown
    return shown
