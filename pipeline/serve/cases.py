"""What the server tells of cases: read from the case folders, and read again only when a file of the case has changed."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchone.pipeline.commands.status import case_status
from batchone.pipeline.errors import InputError
from batchone.pipeline.preview import ORDER_FILE, PREVIEW, preview_of
from batchone.pipeline.serve.credentials import Actor
from batchone.pipeline.serve.refusal import Refusal, unknown
from batchone.pipeline.serve.store import FILE as SERVER_FILE
from batchone.pipeline.stages import STAGES
from batchone.pipeline.store import CaseFolder

CASE_ID = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"  # as in orders and parcels
_ID = re.compile(CASE_ID.removesuffix("$"))
_STAGE_FILES = tuple(f"{'job' if stage.gives == 'JobFolder' else stage.name}/stage.json" for stage in STAGES)
_FILES = (
    "order.toml",
    "parcel.json",
    "events.jsonl",
    "decisions",
    "job/value.json",
    f"{PREVIEW.name}/stage.json",
    f"{PREVIEW.name}/{ORDER_FILE}",
    *_STAGE_FILES,
)


@dataclass(frozen=True, slots=True)
class View:
    """What is told of a case.

    ``body`` is its JSON document, ``tag`` the ETag of it; ``sender`` the hospital that it came from over the server; ``job`` the
    released job folder of the device and the approval that are there now; ``device`` the digest of the checked device;
    ``preview`` that of a newer device which is shown with its interactive checks until its release checks are there.
    """

    case: str
    status: str
    sender: str | None
    job: Path | None
    device: str | None
    preview: str | None
    tree: dict[str, Any]
    body: bytes
    tag: str


class Cases:
    """The cases of a site."""

    def __init__(self, site: Path) -> None:
        self._folder = site.resolve() / "cases"
        self._site = site.resolve()
        self._known: dict[str, tuple[object, View]] = {}

    def ids(self) -> list[str]:
        """The ids of all cases, sorted."""
        try:
            with os.scandir(self._folder) as found:
                return sorted(one.name for one in found if _ID.fullmatch(one.name) and one.is_dir(follow_symlinks=False))
        except FileNotFoundError:
            return []

    def folder(self, case: str) -> Path:
        """Where a case lies.

        Raises
        ------
        Refusal
            404: what is no case id leads nowhere.
        """
        if not _ID.fullmatch(case):
            raise unknown("case")
        return self._folder / case

    def view(self, case: str) -> View:
        """What is known of a case; some microseconds where nothing has changed.

        Raises
        ------
        Refusal
            404: there is no such case; 503: the site's disk cannot be reached.
        """
        folder = self.folder(case)
        place = str(folder)
        seen = tuple([_stamp(f"{place}/{name}") for name in _FILES])
        if not any(seen):
            self._known.pop(case, None)
            self.must_be_there()
            raise unknown("case")
        known = self._known.get(case)
        if known is None or known[0] != seen:
            known = self._known[case] = seen, self._read(case, folder)
        return known[1]

    def must_be_there(self) -> None:
        """A case is not unknown because the site's disk went away.

        Raises
        ------
        Refusal
            503: it did.
        """
        if not (self._site / SERVER_FILE).exists():
            raise Refusal(503, "the site's disk cannot be reached", hint="ask again later", headers={"Retry-After": "5"})

    def shown(self, case: str, actor: Actor) -> View:
        """What is known of a case, for somebody who may see it.

        Raises
        ------
        Refusal
            404: there is no such case, or it is not for them.
        """
        view = self.view(case)
        if not visible(view, actor):
            raise unknown("case")
        return view

    def events(self, case: str) -> list[dict[str, str]]:
        """What happened to a case, in order; a line that is being written is left out."""
        try:
            data = (self.folder(case) / "events.jsonl").read_bytes()
        except FileNotFoundError:
            return []
        return [_event(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]

    def events_stamp(self, case: str) -> object:
        """Another value after each event."""
        return _stamp(self.folder(case) / "events.jsonl")

    def _read(self, case: str, folder: Path) -> View:
        try:
            status = case_status(str(folder), self._site)
        except InputError:
            raise unknown("case") from None
        record, parcel = _json(folder / "check" / "stage.json"), _json(folder / "parcel.json")
        tree = {
            "case": case,
            "status": status.status,
            "stages": dict(status.stages),
            "job": None if status.job is None else status.job.name,
            "device": record.get("value_digest"),
            "images": status.images,
            "warnings": list(status.warnings),
            "returned": status.returned,
        }
        body = json.dumps(tree, ensure_ascii=False).encode()
        tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        seen = preview_of(CaseFolder(folder))
        preview = None if seen is None else str(seen["taken"]["Device"])
        return View(case, status.status, parcel.get("sender"), status.job, record.get("value_digest"), preview, tree, body, tag)


def visible(view: View, actor: Actor) -> bool:
    """Whether somebody may see a case: a hospital its own, a cell the released ones, engineer and approver all."""
    return bool(
        actor.roles & {"engineer", "approver"}
        or ("hospital" in actor.roles and view.sender is not None and view.sender == actor.account.hospital)
        or ("cell" in actor.roles and view.job is not None)
    )


def released(view: View) -> Path:
    """The released job folder of a case.

    Raises
    ------
    Refusal
        409: there is none.
    """
    if view.job is None or not view.job.is_dir():
        raise Refusal(409, f"the case is {view.status}, it has no released job", hint="ask for its state again later")
    return view.job


def _stamp(path: str | Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - of text: a path object each time costs more than the question
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _json(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return tree if isinstance(tree, dict) else {}


def _event(line: bytes) -> dict[str, str]:
    try:
        event = json.loads(line)
    except ValueError:
        event = {"what": "a line that cannot be read"}
    return {name: str(event.get(name, "")) for name in ("who", "what", "when", "meaning", "digest")}
