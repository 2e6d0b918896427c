"""What a storm aims at: every stage alike, the engine in a fixed share, and only what is really there."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from batchone.samples.storm import Seen
from batchone.samples.storm_aim import (
    ENGINE,
    GATE,
    STAGES,
    Sight,
    Target,
    aimed_anew,
    children_of,
    draw_targets,
    gone,
    processor_s,
    usual_seconds,
)


def test_the_stages_hit_least_come_first_and_the_engine_has_its_share() -> None:
    hits, engine, kills = Counter[str](), 0, 0
    for seed in range(50):
        targets = draw_targets(12, random.Random(seed), hits)
        inside = [target.stage for target in targets if target.inside]
        hits.update(inside)
        engine, kills = engine + len(targets) - len(inside), kills + len(targets)
        assert inside == sorted(inside, key=STAGES.index)  # in the order in which the case comes to them
        assert max(Counter(inside).values()) <= 2
        assert all(0.0 <= target.part <= 1.0 for target in targets)
        assert all(target.stage != GATE for target in targets if not target.inside)
        starting = [number for number, target in enumerate(targets) if not target.stage]
        assert all(number == 0 or targets[number - 1].kind == "worker" for number in starting)
    assert kills == 600
    assert max(hits.values()) - min(hits[stage] for stage in STAGES) <= 1
    assert engine / kills == pytest.approx(ENGINE, abs=4.0 * (ENGINE * (1.0 - ENGINE) / kills) ** 0.5)
    assert draw_targets(12, random.Random(1), {}) == draw_targets(12, random.Random(1), {})
    spared = draw_targets(4, random.Random(1), {stage: 2 for stage in STAGES if stage not in ("plan", "check")})
    assert {target.stage for target in spared if target.inside} == {"plan", "check"}


def test_what_a_case_has_passed_is_aimed_anew_at_what_is_left_of_it_but_not_too_often() -> None:
    target, chance = Target("plan", False, "child", 0.25), random.Random(1)
    found = [aimed_anew(target, "review", {"slice": 3, "job": 2}, chance) for _ in range(40)]
    assert {one.stage for one in found if one} == {"review", "job"}
    assert all(one is not None and one.inside and (one.kind, one.part) == ("child", 0.25) for one in found)
    assert aimed_anew(target, "slice", {"slice": 3, "job": 3}, chance) is None


def test_a_half_made_result_is_somebodys_work_only_when_it_is_newer_than_the_last_kill(tmp_path: Path) -> None:
    sight = Sight(tmp_path)
    assert sight.stage() == "intake"
    assert not sight.running("intake")
    (tmp_path / ".intake.part").mkdir()
    assert sight.running("intake")
    sight.since_s = time.time() + 0.1  # of a file system's clock, which may lag
    assert not sight.running("intake")
    for stage in STAGES:
        assert sight.stage() == stage
        (tmp_path / stage).mkdir()
        (tmp_path / stage / "stage.json").write_text("{}")
    assert sight.stage() == ""


def test_who_has_the_case_has_its_lock_open_and_its_seconds_count_until_it_is_gone(tmp_path: Path) -> None:
    program = "import sys; lock = open(sys.argv[1], 'a'); print(sum(range(10**7)), flush=True); input()"
    command = [sys.executable, "-c", program, str(tmp_path / ".lock"), "batchone.pipeline.engine.child"]
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        child.stdout.readline()
        assert Sight(tmp_path).holds(child.pid)
        assert not Sight(tmp_path / "another").holds(child.pid)
        assert not Sight(tmp_path).holds(os.getpid())
        assert children_of(os.getpid()) == [child.pid]
        assert processor_s(child.pid) > 0.02
        assert not gone(child.pid)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # dead, and its parent has not asked yet
        assert gone(child.pid)
    finally:
        child.kill()
        child.wait()
        child.stdin.close()
        child.stdout.close()
        other.kill()
        other.communicate()
    assert gone(child.pid)
    assert processor_s(child.pid) == 0.0


def test_how_long_a_moment_lasts_is_read_from_an_undisturbed_run(tmp_path: Path) -> None:
    for number, stage in enumerate(STAGES):
        (tmp_path / stage).mkdir()
        record = tmp_path / stage / "stage.json"
        record.write_text(json.dumps({} if stage == GATE else {"seconds": 0.5 + number}))
        os.utime(record, (1000.0 + 20.0 * number, 1000.0 + 20.0 * number))
    usual = usual_seconds(tmp_path)
    assert usual["in plan"] == 2.5
    assert usual["before plan"] == pytest.approx(20.0 - 2.5)
    assert f"before {GATE}" not in usual
    assert {target.aim for seed in range(99) for target in draw_targets(12, random.Random(seed), {})} == set(usual)


def test_a_stage_that_was_spared_and_workers_hit_too_often_while_they_start_are_wrong() -> None:
    kills = Counter({f"child in {stage}": 10 for stage in STAGES}) + Counter({"worker starting": 8, "worker before job": 8})
    seen = Seen(kills=kills, aims=Counter({"starting": 8}))
    assert not seen.spared()
    seen.kills["child in plan"] = 4  # a third of the even share, of 90 kills: 3.1
    assert not seen.spared()
    seen.kills["worker in slice"], seen.kills["child in plan"] = 1, 3
    assert seen.spared() == ["3 kills in plan, at least 3.1"]
    seen.kills["child in plan"], seen.aims["starting"] = 4, 7
    assert seen.spared() == ["8 kills met a worker that started, 7 were meant to"]
    assert Seen(kills=Counter({f"child in {stage}": 10 for stage in STAGES})).spared() == ["no kill in the engine"]
