"""What lies in the site's folder, told to the engine: parcels become cases, cases become workflows, people's answers arrive.

Nothing else starts work. So whoever writes an order, an approval or a parcel into the folder needs no engine, and tables that
were lost are made anew by looking. Open cases are looked at each time; one that is settled (done, or ended by a person) when the
site's events name it, and in turn with the others at every :data:`TURNS`-th look, whoever changed it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dbos import DBOS, SetWorkflowID

from batchone.pipeline.case_answers import SAID, kind_of, last_word
from batchone.pipeline.clock.folder import ENDINGS
from batchone.pipeline.commands.status import case_status
from batchone.pipeline.engine.workflows import ANSWER, CASES, case_workflow
from batchone.pipeline.errors import BatchoneError
from batchone.pipeline.events import CASES as FOLDER
from batchone.pipeline.events import EVENTS
from batchone.pipeline.hospital.receive import take_in
from batchone.pipeline.job.withdrawal import read_decisions

ENGINE_VERSION = "2"
"""Version of the workflows, raised when their steps change: others are ended, and begun anew from the folder."""
_OPEN = ("PENDING", "ENQUEUED", "DELAYED")
_LOG = logging.getLogger("batchone.engine")
_WATCHED = ("order.toml", "events.jsonl", "labels", "waivers", "decisions", "study", "review/stage.json", "job/stage.json")
_NAMED = re.compile(rb'"case ([A-Za-z0-9][A-Za-z0-9._-]*): ')  # in a line of the site's events
TURNS = 60
"""Project default: a settled case that nobody told of is looked at once in so many looks, a minute."""
_INPUTS = ("labels", "waivers", "decisions")  # folders of what people put into a case, beside its order


@dataclass
class Watch:
    """What was seen of a site so far; a new one sees everything anew."""

    site: Path
    _seen: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    _told: dict[str, str] = field(default_factory=dict)
    _settled: set[str] = field(default_factory=set)
    _names: tuple[str, ...] = ()
    _listed: tuple[Any, ...] = ()  # stamps of the folder of cases at the last two looks: a change may follow a look at once
    _heard: int | None = None  # bytes of the site's events
    _turn: int = 0

    def look(self) -> None:
        """Tell the engine what is new."""
        self._take_in()
        self._list()
        named = self._named()
        self._turn = (self._turn + 1) % TURNS
        for number, name in enumerate(self._names):
            if name in self._settled and name not in named and number % TURNS != self._turn:
                continue
            case = self.site / FOLDER / name
            seen = tuple(_stamp(case / part) for part in _WATCHED)
            if self._seen.get(name) == seen:
                continue
            try:
                settled = self._tell(case)
            except BatchoneError as error:  # its folder is broken: no reason to leave the others
                _LOG.warning("case %s: %s", name, error)
                settled = False
            self._seen[name] = seen
            (self._settled.add if settled else self._settled.discard)(name)

    def _list(self) -> None:
        """The cases that are there; the folder is read when it has changed, and at times anyway."""
        stamp = _stamp(self.site / FOLDER)
        if self._listed == (stamp, stamp) and self._turn:
            return
        self._listed = (*self._listed[-1:], stamp)
        try:
            with os.scandir(self.site / FOLDER) as found:
                self._names = tuple(sorted(one.name for one in found if one.is_dir()))
        except (FileNotFoundError, NotADirectoryError):
            self._names = ()

    def _named(self) -> set[str]:
        """The cases that the site's events tell of since the last look; nothing at the first, which sees all."""
        path = self.site / EVENTS
        try:
            size = path.stat().st_size
            before, self._heard = self._heard, size
            if before is None or before == size:
                return set()
            with path.open("rb") as stream:
                stream.seek(before if before < size else 0)
                data = stream.read(size)
        except FileNotFoundError:
            self._heard = 0
            return set()
        self._heard -= len(data) - data.rfind(b"\n") - 1  # a line that is being written is read whole next time
        return {match.decode() for match in _NAMED.findall(data)}

    def _take_in(self) -> None:
        if (self.site / "inbox").is_dir():
            received, refused = take_in(self.site)
            for one in received:
                _LOG.info("case %s received", one.case)
            for digest, _ in refused:
                _LOG.warning("parcel %s refused", digest[:12])

    def _tell(self, case: Path) -> bool:
        """Tell the engine of a case; whether nothing is to come of it by itself."""
        if not (case / "order.toml").is_file():
            return False
        state = case_status(str(case), self.site)
        key = case_key(case)
        workflow = f"{case.name}.{key}.{ENGINE_VERSION}"
        if state.status in ENDINGS.values():
            self._end_others(case.name, None)
            return True
        if state.status == "done" and self._told.get(case.name) != workflow:
            return True
        if not ((case / "study").is_dir() or (case / "intake" / "stage.json").is_file()):
            return False
        if self._told.get(case.name) != workflow:
            self._end_others(case.name, workflow)
            with SetWorkflowID(workflow):
                DBOS.enqueue_workflow(CASES, case_workflow, case.name, key)
            self._told[case.name] = workflow
        answer = last_answer(case)
        if answer is not None:
            digest = hashlib.sha256(json.dumps(answer, sort_keys=True).encode()).hexdigest()
            DBOS.send(workflow, answer, topic=ANSWER, idempotency_key=f"{workflow}-{digest}")
        return state.status == "done"

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
    word = last_word(case)
    if word is not None and (kind := kind_of(word)) is not None:
        return {"kind": SAID[kind], "digest": word.head}
    review = _json(case / "review" / "stage.json")
    withdrawn = {one.approval for one in read_decisions(case)}
    if review is not None and review.get("taken", {}).get("CheckedDevice") == wanted and review["value_digest"] not in withdrawn:
        return {"kind": "approved", "digest": str(review["value_digest"])}
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
