"""``batchone cases``: every case of a site on one board, what must be approved first at the top."""

from __future__ import annotations

import datetime as dt
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Group

    from batchone.pipeline.clock.board import Row, SiteCases
    from batchone.pipeline.clock.folder import CaseReader

REFRESH_S = 5.0
PLAIN_WIDTH = 200  # columns where nobody looks at a terminal: a line for each case
_COLOURS = {"green": "green", "amber": "yellow", "red": "red", "none": "dim"}
_COLUMNS = ("light", "case", "device", "due", "approve by", "on time", "waits for", "why")
_WHOLE = _COLUMNS[:6]  # never broken into two lines


@dataclass(frozen=True, slots=True)
class Board:
    """What the board shows at a time (UTC)."""

    now: dt.datetime
    level: float
    rows: tuple[Row, ...]
    closed: int
    waiting: int
    left_out: tuple[tuple[str, str], ...]

    def tree(self) -> dict[str, Any]:
        """The JSON document."""
        return {
            "now": self.now.isoformat(),
            "level": self.level,
            "cases": [_row_tree(one) for one in self.rows],
            "closed": self.closed,
            "waiting_parcels": self.waiting,
            "left_out": [{"case": case, "what": what} for case, what in self.left_out],
        }

    def notes(self) -> list[str]:
        """What the rows do not show."""
        found = [f"left out: case {case}: {what}" for case, what in self.left_out]
        if self.waiting:
            found.append(f"{self.waiting} parcels wait in the inbox: `batchone receive --once` takes them in")
        if self.closed:
            found.append(
                f"{self.closed} cases are closed (delivered, ended, or released and due without a word of the workshop): --all"
            )
        return found


def cases(
    site: Annotated[
        Path | None, typer.Option("--site", help="Site folder; default $BATCHONE_SITE, else ./batchone-site.")
    ] = None,
    closed: Annotated[bool, typer.Option("--all", help="Closed cases too.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Stay, and draw the board anew every few seconds.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, the rest on stderr.")] = False,
) -> None:
    """Show until when each case may be approved, how likely it is on time, why, and who acts. Times are UTC."""
    from batchone.pipeline.errors import OrderError

    folder = site or Path(os.environ.get("BATCHONE_SITE", "batchone-site"))
    if watch and as_json:
        raise OrderError("--watch draws on a terminal, --json prints one document", hint="give one of them")
    if watch:
        _watch(folder, closed=closed)
        return
    board = read_board(folder, dt.datetime.now(dt.UTC), closed=closed)
    if as_json:
        typer.echo(json.dumps(board.tree(), indent=1, ensure_ascii=False))
        return
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    console.print(drawn(board))


def read_board(site: Path, now: dt.datetime, *, closed: bool = False, reader: CaseReader | None = None) -> Board:
    """The board of a site at a time.

    Raises
    ------
    MachineError
        The site's settings are not valid.
    """
    from batchone.pipeline.clock.board import board
    from batchone.pipeline.intake.inbox import Inbox

    read = site_cases(site, now, reader)
    rows, left = board(read, now, closed=closed)
    return Board(now, read.clock.settings.level, rows, left, len(Inbox(site).waiting()), read.left_out)


def site_cases(site: Path, now: dt.datetime, reader: CaseReader | None = None) -> SiteCases:
    """All cases of a site, and its clock; ``reader`` remembers what it read before."""
    from batchone.pipeline.clock.board import read_site
    from batchone.pipeline.config import read_site_settings
    from batchone.pipeline.stages import STAGES

    return read_site(site, read_site_settings(site).clock, {stage.name: stage.target_s for stage in STAGES}, now, reader)


def drawn(board: Board) -> Group:
    """The board as a terminal shows it."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    from batchone.pipeline.clock.board import utc

    title = f"{len(board.rows)} cases, {utc(board.now)}; all times in UTC; safe: on time with {board.level:.0%}"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in _COLUMNS:
        table.add_column(name, overflow="fold", no_wrap=name in _WHOLE)
    for one in board.rows:
        colour = _COLOURS[one.light]
        chance = "-" if one.probability is None else f"{one.probability:.0%}"
        times = (_short(one.due), _short(one.last_safe_approval))
        acts = f"{one.who}: {one.waits_for}" if one.who else "-"
        light = Text(f"● {one.light}", style=colour)
        table.add_row(light, one.case, one.device or "-", *times, chance, acts, Text(one.reason, style=colour))
    return Group(table, *(Text(note, style="dim") for note in board.notes()))


def _short(when: dt.datetime | None) -> str:
    return "-" if when is None else f"{when:%d %b %H:%M}"


def _watch(site: Path, *, closed: bool) -> None:
    from rich.live import Live

    from batchone.pipeline.clock.folder import CaseReader

    reader = CaseReader()
    with Live(auto_refresh=False) as live:
        while True:
            live.update(drawn(read_board(site, dt.datetime.now(dt.UTC), closed=closed, reader=reader)), refresh=True)
            time.sleep(REFRESH_S)


def _row_tree(one: Row) -> dict[str, Any]:
    return {
        "case": one.case,
        "device": one.device,
        "process": one.process,
        "state": one.state,
        "leg": one.leg,
        "due": _iso(one.due),
        "last_safe_approval": _iso(one.last_safe_approval),
        "probability": one.probability,
        "light": one.light,
        "reason": one.reason,
        "who": one.who,
        "waits_for": one.waits_for,
    }


def _iso(when: dt.datetime | None) -> str | None:
    return None if when is None else when.isoformat()
