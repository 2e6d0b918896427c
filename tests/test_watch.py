"""The worker's look at its site: what is open each time, what is settled when somebody tells of it, and all of it in a minute."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from batchone.pipeline.engine import children, workflows
from batchone.pipeline.engine import watch as of_watch
from batchone.pipeline.engine.children import ChildDied
from batchone.pipeline.engine.watch import TURNS, Watch
from batchone.pipeline.errors import MachineError
from batchone.pipeline.events import EVENTS, append_event, read_chain
from batchone.pipeline.store import CaseFolder

WHEN = "2026-11-24T08:00:00+00:00"
SETTLED, OPEN = 300, 3


class Looker(Watch):
    """A watch that tells nobody, but keeps of which cases it would; cases named ``open-...`` are never settled."""

    def __init__(self, site: Path) -> None:
        super().__init__(site)
        self.told_of: list[str] = []

    def _tell(self, case: Path) -> bool:
        self.told_of.append(case.name)
        return not case.name.startswith("open")

    def seen(self) -> list[str]:
        """Of which cases the next look tells."""
        self.told_of.clear()
        self.look()
        return list(self.told_of)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    for number in range(SETTLED):
        make(tmp_path, f"done-{number:04d}")
    for number in range(OPEN):
        make(tmp_path, f"open-{number}")
    return tmp_path


def make(site: Path, case: str) -> Path:
    folder = site / "cases" / case
    folder.mkdir(parents=True)
    (folder / "order.toml").write_text(f'case = "{case}"\n')
    return folder


def test_a_look_asks_for_open_cases_and_a_share_of_the_settled_ones(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    watch = Looker(site)
    assert len(watch.seen()) == SETTLED + OPEN
    assert watch.seen() == []
    asked = 0
    stamp = of_watch._stamp

    def counted(path: Path) -> object:
        nonlocal asked
        asked += 1
        return stamp(path)

    monkeypatch.setattr(of_watch, "_stamp", counted)
    for _ in range(TURNS):
        assert watch.seen() == []
    eight = len(of_watch._WATCHED)
    assert asked == TURNS * (1 + OPEN * eight) + SETTLED * eight  # once in a minute each; each second it was eight of all


def test_what_a_person_does_to_a_settled_case_is_seen_at_the_next_look(site: Path) -> None:
    watch = Looker(site)
    watch.look()
    case = CaseFolder(site / "cases" / "done-0123")
    with case.locked():
        append_event(case.path / EVENTS, who="code-9", what="revised: too thick", when=WHEN)
        (case.path / "decisions").mkdir()
    assert watch.seen() == ["done-0123"]
    assert watch.seen() == []


def test_a_line_of_the_sites_events_that_is_half_there_is_read_when_it_is_whole(site: Path) -> None:
    watch = Looker(site)
    watch.look()
    (site / EVENTS).write_bytes(b"")
    watch.look()
    for name in ("done-0007", "done-0100"):
        (site / "cases" / name / "labels").mkdir()
    line = b'{"what": "case done-0007: changed"}\n{"what": "case done-0100: changed"}\n'
    (site / EVENTS).write_bytes(line[:50])
    assert "done-0007" in watch.seen()
    (site / EVENTS).write_bytes(line)
    assert "done-0100" in watch.seen()


def test_what_is_put_into_a_settled_case_without_a_word_is_seen_within_a_minute(site: Path) -> None:
    watch = Looker(site)
    watch.look()
    (site / "cases" / "done-0299" / "labels").mkdir()
    assert [name for _ in range(TURNS) for name in watch.seen()] == ["done-0299"]


def test_an_open_case_and_a_new_one_are_seen_at_the_next_look(site: Path) -> None:
    watch = Looker(site)
    for _ in range(3):
        watch.look()
    (site / "cases" / "open-1" / "waivers").mkdir()
    make(site, "new-1")
    assert watch.seen() == ["new-1", "open-1"]
    make(site, "open-9")
    assert watch.seen() == ["open-9"]


def test_a_case_that_came_in_the_moment_of_a_look_is_not_missed(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock of a file system steps by some ms: what comes after the folder was read may leave it with the same time."""
    watch = Looker(site)
    for _ in range(3):
        watch.look()
    stamp = of_watch._stamp
    monkeypatch.setattr(of_watch, "_stamp", lambda path: "same" if path == site / "cases" else stamp(path))
    make(site, "new-1")
    assert watch.seen() == ["new-1"]
    make(site, "new-2")
    assert watch.seen() == ["new-2"]


def test_a_site_without_cases_is_looked_at(tmp_path: Path) -> None:
    watch = Looker(tmp_path)
    assert watch.seen() == []
    make(tmp_path, "first")
    assert watch.seen() == ["first"]


def test_a_stage_whose_process_dies_again_and_again_is_the_workshops_to_mend_and_ends_no_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []
    case = dying(tmp_path, monkeypatch, tried)
    done = workflows._advance([], "c-1", "segment")
    assert done == {"stage": "segment", "status": "failed", "exit_code": MachineError.exit_code, "died": True}  # once more later
    assert tried == ["c-1"] * 3
    assert [event.what for event in read_chain(case / EVENTS).events] == ["segment failed: its process died 3 times"]


def dying(site: Path, monkeypatch: pytest.MonkeyPatch, tried: list[str]) -> Path:
    """A case whose children all die, and are noted in ``tried``."""

    class Dying:
        def __init__(self, site: Path, *, threads: int | None = None) -> None:
            """Lives until it has a case."""

        def take(self, case: str) -> None:
            tried.append(case)

        def advance(self, stage: str) -> dict[str, object]:
            raise ChildDied("the process of the stages ended with -9")

        def close(self) -> None:
            """Gone already."""

    monkeypatch.setattr(children, "StageChild", Dying)
    monkeypatch.setattr(workflows._Worker, "place", workflows.Place(site, None), raising=False)
    monkeypatch.setattr(workflows._Worker, "spare", children.Spare(site, None), raising=False)
    return make(site, "c-1")


def test_a_stage_that_always_kills_its_process_is_given_up_and_told_but_what_the_workshop_mends_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine is a stand-in: its queue runs at once, and a pause is noted."""
    pauses: list[float] = []
    of_disk = [{"stage": "segment", "status": "failed", "exit_code": MachineError.exit_code}] * 20
    rounds: Iterator[dict[str, object]] = iter(of_disk)

    class Handle:
        async def get_result(self) -> dict[str, object]:
            return next(rounds, None) or workflows._advance([], "c-1", "segment")

    class Engine:
        @staticmethod
        async def enqueue_workflow_async(*_: object) -> Handle:
            return Handle()

        @staticmethod
        async def run_step_async(_: object, step: Callable[..., object], *given: object) -> object:
            return step(*given)

        @staticmethod
        async def sleep_async(seconds: float) -> None:
            pauses.append(seconds)

    case = dying(tmp_path, monkeypatch, [])
    monkeypatch.setattr(workflows, "DBOS", Engine)
    done = asyncio.run(workflows._leg("prepare", "prepare", "c-1", "key"))
    assert (done["status"], done["exit_code"]) == ("failed", MachineError.exit_code)
    assert len(pauses) == len(of_disk) + workflows._MOST_ROUNDS - 1
    said = [event.what for event in read_chain(case / EVENTS).events]
    assert said[:-1] == ["segment failed: its process died 3 times"] * workflows._MOST_ROUNDS
    assert said[-1] == "segment failed: its process died 18 times, it is not tried again"
