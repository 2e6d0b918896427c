"""A case as workflows of the engine: a durable wait for people, and legs of stages that take turns on queues.

What they store is what the stages' records hold already: names, states, digests. Each function may be replayed from its start
after a crash: what was done is not done again, for the engine keeps the answers of steps, and the case folder keeps results.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dbos import DBOS

from batchone.pipeline.case_order import ORDER, read_case_order
from batchone.pipeline.engine.children import ChildDied, Spare, StageChild
from batchone.pipeline.engine.reminders import next_reminder
from batchone.pipeline.errors import BatchoneError, CheckFailed, MachineError
from batchone.pipeline.events import CASES as FOLDER
from batchone.pipeline.events import EVENTS, append_event, read_chain
from batchone.pipeline.stages import STAGES
from batchone.slicer.profiles import load_process

CASES, PREPARE, RELEASE, PROGRAMS = "cases", "prepare", "release", "programs"
QUEUES = (CASES, PREPARE, RELEASE, PROGRAMS)
ANSWER = "answer"
_GATE = next(number for number, stage in enumerate(STAGES) if stage.kind == "gate")
_LEGS: Final = {
    PREPARE: tuple(stage.name for stage in STAGES[: _GATE + 1]),
    RELEASE: tuple(stage.name for stage in STAGES[_GATE:]),
}
_MOST_ROUNDS = (
    6  # project default: of such a child in one leg, within some 8 min; then a person looks before it takes a turn again
)
_TRIES = 3  # a child that dies three times at one stage: it is tried again after a pause, as whatever the workshop is to mend
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 15.0, 900.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where this worker works; set once before the engine starts, for workflows take only what can be stored."""

    site: Path
    threads: int | None


class _Worker:
    place: Place
    spare: Spare


def work_at(place: Place) -> None:
    """Say where the workflows of this process work."""
    _Worker.place = place
    _Worker.spare = Spare(place.site, place.threads)


@DBOS.workflow(name="case", max_recovery_attempts=None)
async def case_workflow(case: str, key: str) -> dict[str, Any]:
    """Take a case to its job folder, or to the end that a person or a fault gives it.

    Parameters
    ----------
    case, key
        Its id, and the digest of what it is made from: another order makes another workflow.
    """
    done = await _leg(PREPARE, PREPARE, case, key)
    if done["status"] == "awaiting-approval" or done.get("exit_code") == CheckFailed.exit_code:
        _Worker.spare.keep()  # whoever looks at the device may change it
    if done["status"] == "awaiting-approval":
        answer = await _wait(case, key)
        if answer["kind"] != "approved":
            return {"status": str(answer["kind"])}
        done = {"status": "going-on"}
    if done["status"] != "going-on":
        return done
    queue = await DBOS.run_step_async({"name": "release-queue"}, _release_queue, case)
    return await _leg(queue, RELEASE, case, key)


async def _leg(queue: str, leg: str, case: str, key: str) -> dict[str, Any]:
    """One leg, again and again while the workshop is what fails it: the disk, a program, a key; at last not a child that dies."""
    pause_s, deaths = _FIRST_PAUSE_S, 0
    while True:
        handle = await DBOS.enqueue_workflow_async(queue, leg_workflow, case, key, leg)
        done: dict[str, Any] = await handle.get_result()
        if done.get("exit_code") != MachineError.exit_code:
            return done
        deaths += bool(done.get("died"))
        if deaths == _MOST_ROUNDS:
            await DBOS.run_step_async({"name": "give-up"}, _give_up, case, done["stage"])
            return done
        await DBOS.sleep_async(pause_s)
        pause_s = min(2.0 * pause_s, _LONGEST_PAUSE_S)


async def _wait(case: str, key: str) -> dict[str, Any]:
    """Wait for a person's answer; what is returned waits on, and reminders are told as time goes."""
    told = 0
    while True:
        seconds = await DBOS.run_step_async({"name": "seconds-to-reminder"}, _seconds_to_reminder, case)
        answer = await DBOS.recv_async(ANSWER, timeout_seconds=seconds)
        if answer is None:
            await DBOS.run_step_async({"name": "remind"}, _remind, case, told)
            told += 1
        elif answer["kind"] != "returned":
            return dict(answer)


@DBOS.workflow(name="leg", max_recovery_attempts=None)
def leg_workflow(case: str, key: str, leg: str) -> dict[str, Any]:
    """Run the stages of a leg, each a step, in one child process."""
    children: list[StageChild] = []
    try:
        done: dict[str, Any] = {}
        for stage in _LEGS[leg]:
            done = DBOS.run_step({"name": stage}, _advance, children, case, stage)
            if done["status"] != "going-on":
                return done
        return {**done, "status": "done"} if leg == RELEASE else done
    finally:
        for child in children:
            child.close()


def _advance(children: list[StageChild], case: str, stage: str) -> dict[str, Any]:
    """Run one stage; a child that dies is followed by another."""
    for _ in range(_TRIES):
        if not children:
            children.append(_Worker.spare.child(case))
        try:
            return children[-1].advance(stage)
        except ChildDied:
            children.pop().close()
    _tell(case, f"{stage} failed: its process died {_TRIES} times", "look for memory and the log of the worker")
    return {"stage": stage, "status": "failed", "exit_code": MachineError.exit_code, "died": True}


def _give_up(case: str, stage: str) -> None:
    what = f"{stage} failed: its process died {_MOST_ROUNDS * _TRIES} times, it is not tried again"
    _tell(case, what, "look for memory and the log of the worker; then run the case, or change its order")


def _release_queue(case: str) -> str:
    """Where the release leg of a case waits: one that needs an external program takes turns with its like."""
    site = _Worker.place.site
    try:
        order = read_case_order(site / FOLDER / case / ORDER)
        return PROGRAMS if load_process(order.process, site).kind == "fff" else RELEASE
    except BatchoneError:
        return RELEASE  # the leg says what is wrong


def _seconds_to_reminder(case: str) -> float:
    due = _order_due(case)
    events = reversed(read_chain(_Worker.place.site / FOLDER / case / EVENTS).events)
    said = _reminds(due)
    last = next((one.when for one in events if one.what.startswith("reminder ") and one.what.endswith(said)), None)
    return next_reminder(due, None if last is None else dt.datetime.fromisoformat(last))


def _remind(case: str, told: int) -> None:
    _tell(case, f"reminder {told + 1}{_reminds(_order_due(case))}", "")


def _reminds(due: dt.datetime) -> str:
    return f": waits for review; due {due.isoformat()}"


def _order_due(case: str) -> Any:
    return read_case_order(_Worker.place.site / FOLDER / case / ORDER).due


def _tell(case: str, what: str, hint: str) -> None:
    events, now = _Worker.place.site / FOLDER / case / EVENTS, dt.datetime.now(dt.UTC).isoformat()
    append_event(events, who="batchone worker", what=what, when=now, meaning=hint)
