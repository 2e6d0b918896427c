"""What lies in the site's folder, told to the engine: parcels become cases, cases become workflows, people's answers arrive.

Nothing else starts work. So whoever writes an order, an approval or a parcel into the folder needs no engine, and tables that
were lost are made anew by looking.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dbos import DBOS, SetWorkflowID

from batchone.pipeline.clock.folder import ENDINGS
from batchone.pipeline.clock.legs import REVISED
from batchone.pipeline.commands.status import case_status
from batchone.pipeline.engine.workflows import ANSWER, CASES, case_workflow
from batchone.pipeline.errors import BatchoneError
from batchone.pipeline.hospital.receive import take_in
from batchone.pipeline.job.withdrawal import read_decisions

ENGINE_VERSION = "1"
"""Version of the workflows, raised when their steps change: others are ended, and begun anew from the folder."""
_OPEN = ("PENDING", "ENQUEUED", "DELAYED")
_LOG = logging.getLogger("batchone.engine")
_WATCHED = ("order.toml", "events.jsonl", "labels", "waivers", "decisions", "study", "review/stage.json", "job/stage.json")
_INPUTS = ("labels", "waivers", "decisions")  # folders of what people put into a case, beside its order


@dataclass
class Watch:
    """What was seen of a site so far; a new one sees everything anew."""

    site: Path
    _seen: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    _told: dict[str, str] = field(default_factory=dict)

    def look(self) -> None:
        """Tell the engine what is new."""
        self._take_in()
        folder = self.site / "cases"
        for case in sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else ():
            seen = tuple(_stamp(case / name) for name in _WATCHED)
            if self._seen.get(case.name) == seen:
                continue
            try:
                self._tell(case)
            except BatchoneError as error:  # its folder is broken: no reason to leave the others
                _LOG.warning("case %s: %s", case.name, error)
            self._seen[case.name] = seen

    def _take_in(self) -> None:
        if (self.site / "inbox").is_dir():
            received, refused = take_in(self.site)
            for one in received:
                _LOG.info("case %s received", one.case)
            for digest, _ in refused:
                _LOG.warning("parcel %s refused", digest[:12])

    def _tell(self, case: Path) -> None:
        if not (case / "order.toml").is_file():
            return
        state = case_status(str(case), self.site)
        key = case_key(case)
        workflow = f"{case.name}.{key}.{ENGINE_VERSION}"
        if state.status in ENDINGS.values():
            self._end_others(case.name, None)
            return
        if state.status == "done" and self._told.get(case.name) != workflow:
            return
        if not ((case / "study").is_dir() or (case / "intake" / "stage.json").is_file()):
            return
        if self._told.get(case.name) != workflow:
            self._end_others(case.name, workflow)
            with SetWorkflowID(workflow):
                DBOS.enqueue_workflow(CASES, case_workflow, case.name, key)
            self._told[case.name] = workflow
        answer = last_answer(case)
        if answer is not None:
            digest = hashlib.sha256(json.dumps(answer, sort_keys=True).encode()).hexdigest()
            DBOS.send(workflow, answer, topic=ANSWER, idempotency_key=f"{workflow}-{digest}")

    def _end_others(self, case: str, workflow: str | None) -> None:
        """End the workflows of what a case was before, its own one (None: all of them) left out."""
        found = DBOS.list_workflows(workflow_id_prefix=f"{case}.", status=list(_OPEN), load_input=False, load_output=False)
        own = [one.workflow_id for one in found if one.workflow_id.rsplit(".", 2)[0] == case]  # a case's id may have dots
        old = [name for name in own if workflow is None or not name.startswith(workflow)]
        if old:
            DBOS.cancel_workflows(old, cancel_children=True)


def end_other_versions() -> int:
    """End the workflows of other versions of the engine; their cases begin anew from their folders.

    Returns
    -------
    int
        How many there were.
    """
    found = DBOS.list_workflows(status=list(_OPEN), load_input=False, load_output=False)
    old = [one.workflow_id for one in found if one.app_version not in (None, ENGINE_VERSION)]
    if old:
        DBOS.cancel_workflows(old, cancel_children=True)
    return len(old)


def case_key(case: Path) -> str:
    """Digest (12 hex digits) of what people put into a case: its order, edited labels, waivers and decisions."""
    running = hashlib.sha256()
    files = [case / "order.toml"]
    files += sorted(path for name in _INPUTS for path in (case / name).rglob("*") if path.is_file())
    for path in files:
        running.update(str(path.relative_to(case)).encode() + b"\n" + hashlib.sha256(path.read_bytes()).digest())
    return running.hexdigest()[:12]


def last_answer(case: Path) -> dict[str, str] | None:
    """What a person said last of the device that is there now: ``kind`` is approved, returned or rejected.

    An approval counts when it stands signed in the folder, for this device; what was said before the device was checked is void.
    """
    check = _json(case / "check" / "stage.json")
    if check is None:
        return None
    wanted = str(check.get("value_digest"))
    review = _json(case / "review" / "stage.json")
    withdrawn = {one.approval for one in read_decisions(case)}
    if review is not None and review.get("taken", {}).get("CheckedDevice") == wanted and review["value_digest"] not in withdrawn:
        return {"kind": "approved", "digest": str(review["value_digest"])}
    try:
        lines = (case / "events.jsonl").read_bytes().splitlines()
    except FileNotFoundError:
        return None
    for line in reversed(lines):
        try:
            event = json.loads(line)
        except ValueError:
            continue  # a torn line: cut by the next writer
        what = str(event.get("what", ""))
        if what == "check done" or what.startswith(f"{REVISED}: "):
            return None
        for kind in ("returned", "rejected"):
            if what.startswith(f"{kind}: "):
                return {"kind": kind, "digest": hashlib.sha256(line).hexdigest()}
    return None


def _json(path: Path) -> dict[str, Any] | None:
    try:
        tree = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return tree if isinstance(tree, dict) else None


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
