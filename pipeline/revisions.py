"""The devices that a case has had: each checked one is kept with its order in ``revisions/``, so that any two can be compared.

One that was approved and then withdrawn has its approval, waivers and job there too.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchone.pipeline.disk import disk, flush_folder
from batchone.pipeline.store import CaseFolder, removed_on_failure, write_atomic

FOLDER = "revisions"
_RECORD, _STANDING = "revision.json", "standing.json"


@dataclass(frozen=True, slots=True)
class Revision:
    """One checked device of a case.

    ``folder`` holds its ``order.toml`` and the files of its CheckedDevice; ``device`` is the digest of that, ``order`` that of
    the order; ``made`` the time when its check began (UTC, ISO 8601).
    """

    number: int
    made: str
    device: str
    order: str
    folder: Path

    @property
    def withdrawn(self) -> bool:
        """Whether it was approved, and the approval withdrawn: what comes of it now is another revision."""
        return (self.folder / "review").is_dir()

    def record(self) -> dict[str, Any]:
        """What was kept with it; ``findings`` as in the record of a stage."""
        return _json(self.folder / _RECORD)


def keep_revision(case: CaseFolder, order: str) -> Revision:
    """Keep the CheckedDevice that the case holds, unless it is the one kept last and counts; the caller holds the case's lock.

    Parameters
    ----------
    order
        Digest of the order that it was made for.
    """
    record = case.record("check")
    assert record is not None
    kept = revisions(case.path)
    again = kept and kept[-1].device == record["value_digest"] and not kept[-1].withdrawn
    found = kept[-1] if again else _kept(case, len(kept) + 1, record, order)
    standing = {"order": order, "revision": found.number}
    if _json(case.path / FOLDER / _STANDING) != standing:
        write_atomic(case.path / FOLDER / _STANDING, json.dumps(standing).encode())
    return found


def revisions(case: Path) -> tuple[Revision, ...]:
    """The devices that a case has had, the first one first."""
    found = []
    for path in sorted((case / FOLDER).glob("[0-9][0-9][0-9][0-9]")):
        tree = _json(path / _RECORD)
        found.append(Revision(int(path.name), tree["made"], tree["device"], tree["order"], path))
    return tuple(found)


def put_away(case: CaseFolder, device: str, names: tuple[str, ...]) -> None:
    """Move folders of a case to the device of a digest, which was approved with them; the caller holds the case's lock.

    A crash between two of them is made good by the same call again: the last of ``names`` must be the approval.
    """
    found = [one for one in revisions(case.path) if one.device == device and not one.withdrawn]
    place = found[-1].folder if found else keep_revision(case, made_for(case.path) or "").folder
    with disk():
        for name in names:
            if (case.path / name).is_dir():
                (case.path / name).rename(place / name)
                flush_folder(place)
        flush_folder(case.path)


def made_for(case: Path) -> str | None:
    """Digest of the order for which the case's checked device stands; None before the first one."""
    found: str | None = _json(case / FOLDER / _STANDING).get("order")
    return found


def _kept(case: CaseFolder, number: int, record: dict[str, Any], order: str) -> Revision:
    name = f"{number:04d}"
    staging = case.staging(f"{FOLDER}-{name}")
    with removed_on_failure(staging), disk():
        for name_in in ("value.json", *record["outputs"]):
            _link(case.path / "check" / name_in, staging / name_in)
        shutil.copyfile(case.path / "order.toml", staging / "order.toml")
        told = {"made": record["started"], "device": record["value_digest"], "order": order, "findings": record["findings"]}
        write_atomic(staging / _RECORD, json.dumps(told, ensure_ascii=False).encode())
        (case.path / FOLDER).mkdir(exist_ok=True)
        staging.rename(case.path / FOLDER / name)
    return Revision(number, told["made"], told["device"], order, case.path / FOLDER / name)


def _link(source: Path, target: Path) -> None:
    """A second name for a file that is never written again; a copy where the file system has no such names."""
    if target.exists() or not source.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _json(path: Path) -> dict[str, Any]:
    try:
        tree = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return tree if isinstance(tree, dict) else {}
