"""Codec, store, events and the order's own text: what is written reads back, and a crash shows nothing half-written."""

from __future__ import annotations

import datetime as dt
import errno
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchone.pipeline import codec, store
from batchone.pipeline.errors import MachineError, OrderError
from batchone.pipeline.events import append_event, chain_head
from batchone.pipeline.order import Order, Parameters, changed_order, order_text, parse_order, parse_settings
from batchone.pipeline.values import Approval, Axis, Mesh, Plan, Surface


class Knobs(Parameters):
    gap_mm: float = 0.5
    holes: int = 4
    engrave: bool = True


MODELS = {"widget": Knobs}
BASE: dict[str, Any] = {
    "case": "demo-1",
    "device": "widget",
    "side": "left",
    "process": "p",
    "machine": "m",
    "due": dt.datetime(2026, 11, 24, 8, tzinfo=dt.UTC),
}


def _plan() -> Plan:
    mesh = Mesh(np.eye(3), np.array([[0, 1, 2]], dtype=np.int32))
    axis = Axis("insertion", (0.0, 0.0, 0.1), (0.0, 0.0, 1.0))
    return Plan(
        "cranial-implant", True, "left", axes=(axis,), surfaces=(Surface("contour-outer", mesh),), figures=(("area_cm2", 1.5),)
    )


def test_a_value_reads_back_equal(tmp_path: Path) -> None:
    digest = codec.save(_plan(), tmp_path)
    back = codec.load(tmp_path)
    assert codec.digest(back) == digest == codec.digest(_plan())
    assert back.axes == _plan().axes


def test_the_digest_sees_one_bit_of_one_array() -> None:
    plan = _plan()
    plan.surfaces[0].mesh.vertices_mm[1, 1] = np.nextafter(1.0, 2.0)
    assert codec.digest(plan) != codec.digest(_plan())


def test_times_are_kept_as_one_instant(tmp_path: Path) -> None:
    time = dt.datetime(2026, 11, 22, 10, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    codec.save(Approval("a", time, "m", "d", "k"), tmp_path)
    assert codec.load(tmp_path).time == time


def test_a_stage_that_dies_while_writing_leaves_the_old_result(tmp_path: Path) -> None:
    case = store.CaseFolder(tmp_path / "case")

    def good(folder: Path) -> dict[str, Any]:
        (folder / "a.txt").write_text("whole")
        return {"stage": "plan"}

    def bad(folder: Path) -> dict[str, Any]:
        (folder / "a.txt").write_text("hal")
        raise KeyboardInterrupt

    case.publish("plan", good)
    with pytest.raises(KeyboardInterrupt):
        case.publish("plan", bad)
    assert (case.path / "plan" / "a.txt").read_text() == "whole"
    record = case.record("plan")
    assert record is not None
    assert case.intact("plan", record)
    with case.locked():
        assert not list(case.path.glob(".*.part"))


def test_a_changed_file_makes_a_result_not_intact(tmp_path: Path) -> None:
    case = store.CaseFolder(tmp_path / "case")
    record = case.publish("plan", lambda folder: {"n": (folder / "a.txt").write_text("x")})
    (case.path / "plan" / "a.txt").write_text("y")
    assert not case.intact("plan", record)


def test_a_case_has_one_writer(tmp_path: Path) -> None:
    case = store.CaseFolder(tmp_path / "case")
    with case.locked(), pytest.raises(MachineError, match="another process"), store.CaseFolder(case.path).locked():
        pass


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_the_workshops_error(tmp_path: Path, code: int) -> None:
    case = store.CaseFolder(tmp_path / "case")

    def full(folder: Path) -> dict[str, Any]:
        raise OSError(code, "no")

    with pytest.raises(MachineError) as caught:
        case.publish("plan", full)
    assert caught.value.exit_code == 5
    assert "free space" in caught.value.hint
    assert case.record("plan") is None


def test_events_are_chained_and_a_torn_line_is_cut_and_recorded(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    append_event(path, who="a", what="one", when="t")
    append_event(path, who="a", what="two", when="t")
    with path.open("ab") as stream:
        stream.write(b'{"who": "a", "wh')
    head = append_event(path, who="a", what="three", when="t")
    events = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert [event["what"] for event in events] == ["one", "two", "16 bytes of a torn line were cut", "three"]
    assert chain_head(path) == head


def test_a_changed_event_breaks_the_chain(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for what in ("one", "two"):
        append_event(path, who="a", what=what, when="t")
    path.write_bytes(path.read_bytes().replace(b"one", b"0ne"))
    assert chain_head(path) is None


@given(
    gap_mm=st.floats(0.0, 9.0),
    text=st.text(max_size=60),
    side=st.sampled_from(["left", "right", "midline"]),
    points=st.lists(st.tuples(*[st.floats(-2000, 2000)] * 3), min_size=3, max_size=5),
    name=st.text(min_size=1, max_size=64),
    normal=st.tuples(*[st.floats(-1, 1)] * 3).filter(lambda normal: math.hypot(*normal) > 0.1),
    locked=st.booleans(),
)
def test_an_order_written_as_toml_reads_back_equal(
    gap_mm: float, text: str, side: str, points: list[Any], name: str, normal: tuple[float, ...], locked: bool
) -> None:
    import tomllib

    data = {
        **BASE,
        "side": side,
        "prescription": {"prescriber": "code-1", "characteristics": text},
        "plan": {
            "curves": [{"name": name, "closed": True, "points_mm": points, "locked": locked}],
            "lines": [
                {"name": name, "start_mm": points[0], "end_mm": [*points[0][:2], points[0][2] - math.copysign(2, points[0][2])]}
            ],
            "planes": [{"name": name, "origin_mm": points[1], "normal": [part / math.hypot(*normal) for part in normal]}],
            "points": [{"name": name, "point_mm": points[2], "locked": locked}],
        },
        "parameters": {"gap_mm": gap_mm},
    }
    order = parse_order(data, MODELS)
    assert parse_order(tomllib.loads(order_text(order)), MODELS) == order


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"sides": "left"}, "sides: unknown key"),
        ({"side": "up"}, "side:"),
        ({"case": "../x"}, "case:"),
        ({"due": dt.datetime(2026, 1, 1)}, "time zone"),
        ({"device": "toy"}, "known devices: widget"),
        ({"parameters": {"gap": 1.0}}, "parameters.gap: unknown key"),
        ({"parameters": {"holes": "4"}}, "parameters.holes:"),
    ],
)
def test_a_wrong_order_is_refused_by_name(change: dict[str, Any], told: str) -> None:
    with pytest.raises(OrderError, match=r"order|device") as caught:
        parse_order({**BASE, **change}, MODELS)
    assert told in str(caught.value)
    assert caught.value.exit_code == 2
    assert caught.value.hint


def test_settings_change_one_parameter_and_keep_the_rest() -> None:
    order: Order = parse_order({**BASE, "parameters": {"holes": 6}}, MODELS)
    changed = changed_order(order, ["gap_mm=0.4", "engrave=false"])
    assert changed.parameters == Knobs(gap_mm=0.4, holes=6, engrave=False)
    with pytest.raises(OrderError, match="unknown key"):
        changed_order(order, ["gaps=1"])
    assert parse_settings(["mode=bone"]) == {"mode": "bone"}


def test_the_shipped_schema_of_the_job_file_is_that_of_the_model() -> None:
    from importlib import resources

    from batchone.pipeline.job.manifest import JobManifest

    shipped = json.loads(resources.files("batchone.pipeline").joinpath("schemas/job.schema.json").read_text())
    assert shipped == json.loads(json.dumps(JobManifest.model_json_schema(by_alias=True)))
