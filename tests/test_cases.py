"""``batchone cases`` and the plan of ``batchone status``: read from case folders, and what cannot be is told."""

from __future__ import annotations

import datetime as dt
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner

from batchone.pipeline.cli import app
from batchone.pipeline.clock.board import board
from batchone.pipeline.clock.folder import CaseReader, read_case
from batchone.pipeline.clock.history import ATTEMPTS, FAILURES, LEG_TIME, RATIO
from batchone.pipeline.clock.legs import PRINT, QUEUE, REVIEW
from batchone.pipeline.clock.state import standing
from batchone.pipeline.clock.walk import LEAST_REVIEW_S, SKEW_S, walk
from batchone.pipeline.commands.cases import Board, drawn, read_board, site_cases
from batchone.pipeline.errors import OrderError
from batchone.pipeline.events import append_event
from batchone.pipeline.store import CaseFolder

NOW = dt.datetime(2026, 11, 30, 8, 0, tzinfo=dt.UTC)
STAGES = ("intake", "segment", "plan", "design", "check")
WORKSHOP = ("print started", "print done", "post-processing done", "inspection done", "sterilisation done", "delivered")
MANY = 1000
BOARD_S = 1.0
WAIT_S = 60.0  # of a machine under load


def at(hours: float) -> dt.datetime:
    return NOW + dt.timedelta(hours=hours)


def case(
    site: Path,
    name: str,
    *events: tuple[str, dt.datetime],
    due: dt.datetime | None = None,
    stages: tuple[str, ...] = STAGES,
    process: str = "guide-resin",
    fails: bool = False,
    estimate_s: float = 7200.0,
) -> Path:
    """A case folder as the stages leave it; ``slice`` and ``package`` in ``stages`` mean that it is approved and released."""
    folder = site / "cases" / name
    folder.mkdir(parents=True)
    if due is not None:
        head = f'case = "{name}"\ndevice = "pedicle-guide"\nside = "midline"\nprocess = "{process}"\nmachine = "sim-01"\n'
        (folder / "order.toml").write_text(f"{head}due = {due.isoformat()}\n\n[prescription]\nprescriber = 'code-17'\n")
    for stage in stages:
        place = folder / ("job" if stage == "package" else stage)
        place.mkdir()
        findings = {
            "$tuple": [{"$type": "Finding", "check": "walls", "verdict": "fail" if fails and stage == "check" else "pass"}]
        }
        record = {"stage": stage, "seconds": 2.5, "value_digest": "d", "taken": {"CheckedDevice": "d", "Approval": "d"}}
        record["findings"] = findings
        (place / "stage.json").write_text(json.dumps(record))
        if stage == "slice":
            estimate = {"seconds": estimate_s, "seconds_low": 0.8 * estimate_s, "seconds_high": 1.2 * estimate_s}
            (place / "value.json").write_text(json.dumps({"estimate": estimate}))
        if stage == "package":
            (place / "value.json").write_text(json.dumps({"folder": "job/0123456789abcdef"}))
    lines = (json.dumps({"who": "code-9", "what": what, "when": when.isoformat()}) for what, when in events)
    (folder / "events.jsonl").write_text("".join(f"{line}\n" for line in lines))  # without the flush of each to the disk
    return folder


RELEASED = (*STAGES, "review", "slice", "package")


def released(start: float) -> tuple[tuple[str, dt.datetime], ...]:
    """The events up to the job folder: received at ``start`` hours, approved two hours later."""
    done = tuple((f"{stage} done", at(start)) for stage in STAGES)
    return (("order received", at(start)), *done, ("approved", at(start + 2)), ("package done", at(start + 2)))


def document(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    tree: dict[str, Any] = json.loads(result.stdout)
    text = resources.files("batchone.pipeline").joinpath(f"schemas/{arguments[0]}.schema.json").read_text()
    jsonschema.validate(tree, json.loads(text))
    return tree


def rows(shown: Board) -> dict[str, Any]:
    return {one.case: one for one in shown.rows}


def test_the_board_says_who_acts_and_puts_first_what_must_be_approved_first(tmp_path: Path) -> None:
    checked = [("order received", at(-1)), ("check done", at(-0.5))]
    case(tmp_path, "no-order", ("study received", at(-1)), stages=())
    case(tmp_path, "new", ("order received", at(-1)), due=at(70), stages=())
    case(tmp_path, "half", ("order received", at(-1)), due=at(71), stages=("intake",))
    case(tmp_path, "soon", *checked, due=at(48))
    case(tmp_path, "later", *checked, due=at(72))
    case(tmp_path, "missed", *checked, due=at(10))
    case(tmp_path, "fails", *checked, due=at(80), fails=True)
    case(tmp_path, "back", *checked, ("returned: rim too thin", at(-0.1)), due=at(81))
    case(tmp_path, "printing", *released(-5), ("print started", at(-2)), due=at(30), stages=RELEASED)
    shown = read_board(tmp_path, NOW)
    found = rows(shown)
    assert {name: one.who for name, one in found.items()} == {
        "no-order": "sender",
        "new": "us",
        "half": "us",
        "soon": "engineer",
        "later": "engineer",
        "missed": "engineer",
        "fails": "engineer",
        "back": "engineer",
        "printing": "workshop",
    }
    assert found["no-order"].light == "none"
    assert found["missed"].light == "red"
    assert "last safe approval was" in found["missed"].reason
    assert (found["later"].light, found["printing"].light) == ("green", "green")
    assert (found["printing"].leg, found["printing"].last_safe_approval) == (PRINT, None)
    order = [one.case for one in shown.rows]
    assert order.index("missed") < order.index("soon") < order.index("later") < order.index("no-order")
    assert order[-1] == "no-order"
    assert (found["later"].last_safe_approval - found["soon"].last_safe_approval) == dt.timedelta(hours=24)
    assert found["back"].waits_for == "a changed device"
    drawn(shown)


def test_a_case_turns_red_at_its_last_safe_approval(tmp_path: Path) -> None:
    case(tmp_path, "c-1", ("order received", at(-1)), ("check done", at(-0.5)), due=at(60))
    last = rows(read_board(tmp_path, NOW))["c-1"].last_safe_approval
    before, after = (rows(read_board(tmp_path, last + dt.timedelta(minutes=one)))["c-1"] for one in (-1, 1))
    assert (before.light, after.light) == ("amber", "red")  # not yet approved: the review itself takes its time
    assert before.last_safe_approval == after.last_safe_approval


def test_closed_cases_are_left_out_and_counted(tmp_path: Path) -> None:
    delivered = zip(WORKSHOP, map(at, (-8, -6, -4, -3, -2, -1)), strict=True)
    case(tmp_path, "delivered", *released(-12), *delivered, due=at(1), stages=RELEASED)
    case(tmp_path, "unheard-of", *released(-30), due=at(-1), stages=RELEASED)
    case(tmp_path, "late", *released(-30), ("print started", at(-20)), due=at(-1), stages=RELEASED)
    case(tmp_path, "ended", ("check done", at(-2)), ("rejected: no longer needed", at(-1)), due=at(9))
    shown = read_board(tmp_path, NOW)
    assert ([one.case for one in shown.rows], shown.closed) == (["late"], 3)
    assert shown.rows[0].reason.startswith("due 1.0 h ago")
    everything = rows(read_board(tmp_path, NOW, closed=True))
    assert everything["delivered"].light == "green"
    assert (everything["ended"].state, everything["ended"].reason) == ("rejected", "rejected: no longer needed")
    assert everything["delivered"].waits_for == "nothing"


def test_workshop_events_end_their_legs_and_a_failed_print_queues_again(tmp_path: Path) -> None:
    folder = case(tmp_path, "c-1", *released(-20), ("print started", at(-15)), due=at(9), stages=RELEASED)

    def say(what: str, hours: float) -> None:
        append_event(folder / "events.jsonl", who="code-9", what=what, when=at(hours).isoformat())

    assert standing(read_case(folder), NOW).leg == PRINT
    say("print failed", -14)
    again = standing(read_case(folder), NOW)
    assert (again.leg, again.since, again.reported) == (QUEUE, at(-14), True)
    say("print started", -13)
    say("print done", -10)
    done = standing(read_case(folder), NOW)
    assert (done.leg, done.since) == ("post-processing", at(-10))
    took = {
        (one.what, one.leg): one.value for one in done.walked.took if one.what != LEG_TIME or one.leg in (QUEUE, PRINT, REVIEW)
    }
    assert took[LEG_TIME, PRINT] == 3 * 3600.0, "of the print that did not fail"
    assert took[LEG_TIME, QUEUE] == 3600.0
    assert took[LEG_TIME, REVIEW] == 2 * 3600.0
    assert took[RATIO, PRINT] == pytest.approx(1.5)
    assert sum(one.value for one in done.walked.took if one.what == ATTEMPTS) == 2
    assert sum(one.value for one in done.walked.took if one.what == FAILURES) == 1
    say("delivered", -1)  # what lies between was not told, and is over
    last = standing(read_case(folder), NOW)
    assert last.leg is None
    assert not [one for one in last.walked.took if one.leg == "transport"], "nobody knows when it began"


def test_where_nothing_is_sterilised_the_transport_follows_the_inspection(tmp_path: Path) -> None:
    events = (("print started", at(-9)), ("print done", at(-6)), ("post-processing done", at(-5)), ("inspection done", at(-4)))
    folder = case(tmp_path, "c-1", *released(-12), *events, due=at(9), stages=RELEASED)
    assert rows(read_board(tmp_path, NOW))["c-1"].waits_for == "the end of sterilisation"
    (tmp_path / "site.toml").write_text("[clock.process.guide-resin]\nsterilisation_h = 0.0\n")
    assert rows(read_board(tmp_path, NOW))["c-1"].waits_for == "the end of transport"
    append_event(folder / "events.jsonl", who="code-9", what="delivered", when=at(-1).isoformat())
    (one,) = site_cases(tmp_path, NOW).cases
    assert [took.value for took in one[1].walked.took if took.leg == "transport"] == [3 * 3600.0]


@pytest.mark.parametrize(("seconds", "told"), [(SKEW_S, False), (SKEW_S + 1.0, True)])
def test_an_event_of_the_future_is_left_out_and_told(tmp_path: Path, seconds: float, told: bool) -> None:
    ahead = NOW + dt.timedelta(seconds=seconds)
    folder = case(tmp_path, "c-1", ("order received", at(-2)), ("check done", at(-1)), ("approved", ahead), due=at(40))
    found = walk(read_case(folder), NOW)
    assert bool(found.left_out) == told
    assert (found.ended[REVIEW] is None) == told
    shown = read_board(tmp_path, NOW)
    assert bool(shown.left_out) == told
    assert any("of the future" in note for note in shown.notes()) == told


@pytest.mark.parametrize(("seconds", "told"), [(SKEW_S, False), (SKEW_S + 1.0, True)])
def test_a_duration_below_zero_is_left_out_and_told(tmp_path: Path, seconds: float, told: bool) -> None:
    back = at(-1) - dt.timedelta(seconds=seconds)
    folder = case(tmp_path, "c-1", ("check done", at(-1)), ("approved", back), due=at(40))
    found = walk(read_case(folder), NOW)
    assert any("review ended 61 s before it began" in one for one in found.left_out) == told
    assert not [one for one in found.took if one.leg == REVIEW]


@pytest.mark.parametrize(("seconds", "counts"), [(LEAST_REVIEW_S - 1.0, False), (LEAST_REVIEW_S + 1.0, True)])
def test_an_approval_by_the_command_that_made_the_device_is_no_review(tmp_path: Path, seconds: float, counts: bool) -> None:
    folder = case(tmp_path, "c-1", ("check done", at(-1)), ("approved", at(-1) + dt.timedelta(seconds=seconds)), due=at(40))
    assert bool([one for one in walk(read_case(folder), NOW).took if one.leg == REVIEW]) == counts


def test_what_is_no_record_does_no_harm(tmp_path: Path) -> None:
    folder = case(tmp_path, "c-1", ("order received", at(-2)), due=at(40), stages=("intake",))
    record = json.loads((folder / "intake" / "stage.json").read_text())
    (folder / "intake" / "stage.json").write_text(json.dumps(record | {"seconds": -3.0}))
    with (folder / "events.jsonl").open("ab") as stream:
        stream.write(b'{"what": "intake done", "when": "yesterday", "who": "x"}\n{"what": "torn')
    case(tmp_path, "c-2", ("order received", at(-2)), due=at(40), process="unheard-of")
    shown = read_board(tmp_path, NOW)
    assert {text for _, text in shown.left_out} == {"stage intake took -3 s", "event 'intake done' has no time"}
    assert rows(shown)["c-2"].reason == "process 'unheard-of' is not known here"
    assert read_board(tmp_path / "nowhere", NOW).rows == ()


def test_due_times_of_any_zone_are_shown_in_utc(tmp_path: Path) -> None:
    zone = dt.timezone(dt.timedelta(hours=5, minutes=30))
    case(tmp_path, "c-1", ("order received", at(-2)), due=at(40).astimezone(zone), stages=())
    (one,) = read_board(tmp_path, NOW).rows
    assert (one.due, one.due.utcoffset()) == (at(40), dt.timedelta(0))


def test_the_commands_print_documents_that_keep_their_schemas(tmp_path: Path) -> None:
    now = dt.datetime.now(dt.UTC)
    early = [("order received", now - dt.timedelta(hours=2)), ("check done", now - dt.timedelta(hours=1))]
    case(tmp_path, "c-1", *early, due=now + dt.timedelta(hours=60))
    case(tmp_path, "c-2", ("study received", now), stages=())
    tree = document("cases", "--site", str(tmp_path))
    assert [one["case"] for one in tree["cases"]] == ["c-1", "c-2"]
    assert tree["cases"][0]["last_safe_approval"].endswith("+00:00")
    told = document("status", "c-1", "--site", str(tmp_path))
    assert told["probability"] == pytest.approx(tree["cases"][0]["probability"], abs=1e-3)
    assert [one["leg"] for one in told["plan"] if one["done"]] == list(STAGES)
    assert told["last_event"]["what"] == "check done"
    assert document("status", "c-2", "--site", str(tmp_path))["plan"] == []
    plain = CliRunner().invoke(app, ["cases", "--site", str(tmp_path)]).stdout
    assert "● " in plain
    assert " UTC; " in plain
    said = CliRunner().invoke(app, ["status", "c-1", "--site", str(tmp_path)]).stdout
    assert "Last safe approval: " in said
    assert "Waits for: an approval (acts: engineer)" in said
    both = CliRunner().invoke(app, ["cases", "--site", str(tmp_path), "--watch", "--json"])
    assert isinstance(both.exception, OrderError)


def test_a_case_is_read_again_only_after_it_has_changed(tmp_path: Path) -> None:
    folder, reader = case(tmp_path, "c-1", ("order received", at(-2)), due=at(40), stages=("intake",)), CaseReader()
    first = reader.read(folder)
    assert reader.read(folder) is first
    append_event(folder / "events.jsonl", who="code-9", what="intake done", when=at(-1).isoformat())
    second = reader.read(folder)
    assert [one.what for one in second.events] == ["order received", "intake done"]
    CaseFolder(folder).publish("segment", lambda staging: {"seconds": 1.0})
    assert list(reader.read(folder).records) == ["intake", "segment"]


def test_watch_draws_the_board_anew_until_it_is_interrupted(tmp_path: Path) -> None:
    now = dt.datetime.now(dt.UTC)
    case(tmp_path, "c-1", ("order received", now), due=now + dt.timedelta(hours=60), stages=())
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "batchone.pipeline", "cases", "--watch", "--site", str(tmp_path)]
    wide = {**os.environ, "COLUMNS": "200", "TERM": "xterm"}
    running = subprocess.Popen(command, stdout=theirs, stderr=theirs, start_new_session=True, env=wide)
    os.close(theirs)
    try:
        _read_until(ours, b"c-1")
        case(tmp_path, "c-2", ("order received", now), due=now + dt.timedelta(hours=60), stages=())
        _read_until(ours, b"c-2")
        running.send_signal(signal.SIGINT)
        assert running.wait(WAIT_S) == 130
    finally:
        running.kill()
        running.wait()
        os.close(ours)


def _read_until(stream: int, text: bytes) -> None:
    """Read what a terminal is shown until a text is in it."""
    seen, until = b"", time.monotonic() + WAIT_S
    while text not in seen:
        assert time.monotonic() < until, seen
        if select.select([stream], [], [], 1.0)[0]:
            seen += os.read(stream, 65_536)


def test_a_thousand_cases_stand_on_the_board_within_a_second(tmp_path: Path) -> None:
    """Half wait for an approval, half print, each with an estimate of its own; computing time of this process."""
    for number in range(MANY // 2):
        case(tmp_path, f"a-{number}", ("order received", at(-2)), ("check done", at(-1)), due=at(30 + number / 10))
        events = (*released(-20), ("print started", at(-15)))
        case(tmp_path, f"b-{number}", *events, due=at(9), stages=RELEASED, estimate_s=7200.0 + number)
    read = site_cases(tmp_path, NOW)
    started = time.process_time()
    found, closed = board(read, NOW)
    assert time.process_time() - started < BOARD_S
    assert (len(found), closed) == (MANY, 0)
