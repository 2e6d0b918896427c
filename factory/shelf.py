"""A cell's closed records on their way to its site: each until it came, or the site does not take it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from pathlib import Path

from batchone.factory.readiness import logged
from batchone.pipeline.disk import disk
from batchone.pipeline.errors import InputError

_LOG = logging.getLogger(__name__)

Shelve = Callable[[Path], Path | None]
"""Brings a record; the same again changes nothing. Where it lies, to be looked at again; None: it came, and that is all.
An InputError refuses it for good; after a MachineError or OSError it is brought again later."""


class Shelf:
    """What is known of the way of each record.

    Parameters
    ----------
    folder
        Holds an empty file for each record that came, and ``refused/`` one with the reason; when it is removed, the record is
        brought again.
    shelve
        None: records stay here.
    """

    def __init__(self, folder: Path, shelve: Shelve | None) -> None:
        self.folder, self._shelve = folder, shelve
        with disk():
            (folder / "refused").mkdir(parents=True, exist_ok=True)

    def came(self) -> set[str]:
        """The records that came, also in earlier lives of the cell."""
        return {path.name for path in self.folder.iterdir() if path.is_file()}

    def bring(self, records: Iterable[Path]) -> None:
        """Bring those that are not there yet.

        Raises
        ------
        Unreachable
            The site does not answer now.
        """
        if self._shelve is None:
            return
        refused = {path.name for path in (self.folder / "refused").iterdir()}
        done = self.came() | refused
        for record in records:
            if record.name not in done:
                with logged(f"record {record.name}"):
                    self._bring(record, self._shelve)

    def _bring(self, record: Path, shelve: Shelve) -> None:
        try:
            if shelve(record) is None:
                (self.folder / record.name).touch()
        except InputError as error:
            _LOG.warning("record %s is refused: %s", record.name, error)
            (self.folder / "refused" / record.name).write_text(f"{error}\n")
