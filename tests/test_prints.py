"""What a server offers to cells follows from the events of its cases and the ledger, asked by name and all at once."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from types import SimpleNamespace

import pytest
from cell_storm import released_case

import batchone.pipeline.case_workshop as case_workshop
import batchone.pipeline.serve.prints as of_prints
from batchone.factory.inbox import MOST_ATTEMPTS, PRINTS, Entry, Inbox
from batchone.pipeline.build import manifest as of_builds
from batchone.pipeline.case_workshop import record_step, remake
from batchone.pipeline.clock.folder import CaseReader
from batchone.pipeline.errors import MachineError
from batchone.pipeline.job.sums import SUMS, SUMS_SIGNATURE
from batchone.pipeline.serve.cases import Cases
from batchone.pipeline.serve.prints import Prints
from batchone.pipeline.serve.store import FILE
from batchone.pipeline.store import CaseFolder

JOB, OTHER, PLATE = "0123456789abcdef", "fedcba9876543210", "aaaaaaaaaaaaaaaa"
CELL = "cell-1@00000001"
HOUR = dt.timedelta(hours=1)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site with two released jobs."""
    (tmp_path / FILE).touch()
    for case, job in (("c-1", JOB), ("c-2", OTHER)):
        released_case(tmp_path, case, job)
        put(tmp_path / "cases" / case / "job" / job)
    return tmp_path


@pytest.fixture
def prints(site: Path, monkeypatch: pytest.MonkeyPatch) -> Prints:
    """Its prints; what is told of all jobs is never old."""
    monkeypatch.setattr(of_prints, "FRESH_S", 0.0)
    return Prints(site, Cases(site), CaseReader())


def put(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in (SUMS, SUMS_SIGNATURE):
        (folder / name).write_text(f"{folder.name}\n")


def plate(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One with both jobs; its manifest is a stand-in."""
    put(site / PRINTS / PLATE)
    (site / PRINTS / PLATE / "build.json").write_text("{}")
    build = SimpleNamespace(instances=[SimpleNamespace(job=JOB), SimpleNamespace(job=OTHER)])
    monkeypatch.setattr(of_builds, "read_build_manifest", lambda _: build)


def offered(prints: Prints) -> dict[str, str]:
    """State by name; each is found alone as it is found among all."""
    found = {one.entry.name: one.entry.state for one in prints.open()}
    alone = {name: one.entry.state for name in (JOB, OTHER, PLATE) if (one := prints.find(name)) is not None}
    assert alone == found
    return found


def printed(prints: Prints, name: str = JOB, case: str = "c-1", cell: str = CELL) -> Entry:
    inbox = prints.inbox
    entry = inbox.claim(name, cell, inbox.time())
    assert entry is not None
    for step in ("print-started", "print-done"):
        record_step(inbox.folder.parent, case, step, who="cell-1")
    return inbox.settle(entry, "printed", inbox.time())


def test_a_released_job_is_offered_until_it_was_printed_and_released(site: Path, prints: Prints) -> None:
    assert offered(prints) == {JOB: "waiting", OTHER: "waiting"}
    printed(prints)
    assert offered(prints) == {JOB: "printed", OTHER: "waiting"}
    prints.inbox.move(JOB, 1, "released")
    record_step(site, "c-2", "print-started", who="code-9")  # made elsewhere
    assert offered(prints) == {}


@pytest.mark.parametrize("state", ["printed", "released"])
def test_a_persons_remake_is_offered_whatever_the_ledger_said(site: Path, prints: Prints, state: str) -> None:
    printed(prints)
    if state == "released":
        prints.inbox.move(JOB, 1, "released")
    assert remake(site, "c-1", who="code-9", reason="dropped")
    assert offered(prints)[JOB] == "waiting"
    again = prints.inbox.claim(JOB, "cell-2@00000002", prints.inbox.time())
    assert again is not None
    assert (again.attempt, again.most) == (2, 1 + MOST_ATTEMPTS)
    assert [again.account(attempt) for attempt in (0, 1, 2, 3)] == ["", "cell-1", "cell-2", ""]
    prints.inbox.settle(again, "printed", prints.inbox.time())
    prints.inbox.move(JOB, 2, "released")
    assert JOB not in offered(prints)  # one word, one part
    assert not remake(site, "c-1", who="code-9", reason="dropped")  # said twice: the part that was made since stands
    assert JOB not in offered(prints)


def test_a_remake_whose_process_died_before_it_told_the_ledger_is_offered(
    site: Path, prints: Prints, monkeypatch: pytest.MonkeyPatch
) -> None:
    printed(prints)
    prints.inbox.move(JOB, 1, "released")

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(case_workshop, "_offer_again", dies)
        with pytest.raises(KeyboardInterrupt):
            remake(site, "c-1", who="code-9", reason="dropped")
    assert prints.inbox.entry(JOB).state == "released"
    assert offered(prints)[JOB] == "waiting"


def test_a_cells_remake_and_one_from_before_the_end_of_the_print_offer_nothing(site: Path, prints: Prints) -> None:
    printed(prints)
    prints.inbox.move(JOB, 1, "released")
    assert remake(site, "c-1", who="cell-1", reason="told late", job=JOB, by_cell=True)
    assert JOB not in offered(prints)
    inbox = Inbox(site / PRINTS)
    ended = dt.datetime.fromisoformat(inbox.entry(JOB).ended)
    assert inbox.again(JOB, ended).state == "released"
    assert inbox.again(JOB, ended + dt.timedelta(microseconds=1)).state == "waiting"


def test_a_job_on_a_plate_is_offered_alone_after_it_when_a_person_says_so(
    site: Path, prints: Prints, monkeypatch: pytest.MonkeyPatch
) -> None:
    plate(site, monkeypatch)
    assert offered(prints) == {PLATE: "waiting"}
    entry = printed(prints, PLATE)
    record_step(site, "c-2", "print-done", who="cell-1")
    assert offered(prints) == {PLATE: "printed"}
    assert remake(site, "c-2", who="cell-1", reason="warped", job=OTHER, by_cell=True)  # the plate waits again soon
    assert offered(prints) == {PLATE: "printed"}
    assert remake(site, "c-1", who="code-9", reason="scratched")
    assert offered(prints) == {PLATE: "printed", JOB: "waiting"}
    prints.inbox.move(PLATE, entry.attempt, "released")
    assert offered(prints) == {JOB: "waiting"}


def test_of_a_plate_with_a_withdrawn_job_the_other_one_is_offered_alone(
    site: Path, prints: Prints, monkeypatch: pytest.MonkeyPatch
) -> None:
    plate(site, monkeypatch)
    entry = printed(prints, PLATE)
    remake(site, "c-1", who="cell-1", reason="of a plate with a withdrawn job", job=JOB, by_cell=True)
    prints.inbox.move(PLATE, entry.attempt, "refused")
    assert offered(prints) == {PLATE: "refused", JOB: "waiting"}


def test_a_cell_printed_what_the_ledger_says_of_a_job_or_of_its_plate(
    site: Path, prints: Prints, monkeypatch: pytest.MonkeyPatch
) -> None:
    plate(site, monkeypatch)
    inbox = prints.inbox
    claimed = inbox.claim(PLATE, "cell-2@00000002", inbox.time())
    assert claimed is not None
    assert not prints.was_printed_by("cell-2", JOB)  # it has it, and did not print it yet
    inbox.settle(claimed, "waiting", inbox.time(), "warped")
    printed(prints, PLATE)
    assert [prints.was_printed_by(cell, JOB) for cell in ("cell-1", "cell-2", "cell-1@00000001")] == [True, False, False]
    assert not prints.was_printed_by("cell-1", "0" * 16)


def test_what_is_told_of_all_jobs_is_looked_for_once_in_a_second(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cases = Cases(site)
    prints, looked, now = Prints(site, cases, CaseReader()), [], [100.0]
    ids = cases.ids
    monkeypatch.setattr(cases, "ids", lambda: looked.append(1) or ids())
    monkeypatch.setattr(of_prints, "time", SimpleNamespace(monotonic=lambda: now[0]))
    for _ in range(3):
        assert len(prints.open()) == 2
        assert prints.find(JOB) is not None
    printed(prints)
    assert [one.entry.state for one in prints.open()] == ["printed", "waiting"]  # what the ledger says is never old
    assert len(looked) == 1
    now[0] += of_prints.FRESH_S - 0.001
    prints.open()
    assert len(looked) == 1
    now[0] += 0.001
    prints.open()
    assert len(looked) == 2
    with CaseFolder(site / "cases" / "c-2").locked():
        (site / "cases" / "c-2" / "job" / "stage.json").unlink()  # revised: by name it is known at once
    assert prints.find(OTHER) is None


def test_a_ledger_of_before_and_one_that_is_freed_go_on(tmp_path: Path) -> None:
    inbox = Inbox(tmp_path)
    (inbox.ledger / f"{JOB}.json").write_text(f'{{"name": "{JOB}", "state": "held", "cell": "cell-1@1", "attempt": 2}}')
    told: list[str] = []
    freed = inbox.free(JOB, "looked at it", tell=lambda: told.append("told"))
    assert (freed.state, freed.reason, told) == ("waiting", "looked at it", ["told"])
    with pytest.raises(MachineError, match="must be held or refused"):
        inbox.free(JOB, tell=lambda: told.append("again"))
    assert told == ["told"]
    entry = inbox.claim(JOB, CELL, inbox.time())
    assert entry is not None
    assert entry.cells == ("", "", CELL)
    assert inbox.read(JOB) == entry
    assert not entry.is_over(dt.datetime.now(dt.UTC) + HOUR)
