"""The board: every case that one may see, the one that must be approved first at the top."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from batchone.pipeline.commands.cases import read_board
from batchone.pipeline.serve.cases import visible
from batchone.pipeline.serve.credentials import Actor
from batchone.pipeline.serve.guard import GuardedRoute, Parts, Who
from batchone.pipeline.serve.pages.shell import shown
from batchone.pipeline.serve.refusal import Refusal
from batchone.pipeline.serve.services import Services

router = APIRouter(route_class=GuardedRoute, include_in_schema=False)
Typed = Annotated[str, Query(max_length=64)]


@router.get("/")
def board(who: Who, parts: Parts, find: Typed = "", light: Typed = "", closed: bool = False) -> Response:
    """The whole page."""
    return shown("board.html", who, **_board(who, parts, find, light, closed))


@router.get("/board")
def rows(who: Who, parts: Parts, find: Typed = "", light: Typed = "", closed: bool = False) -> Response:
    """Its table alone, asked for again every few seconds."""
    return shown("board_rows.html", who, **_board(who, parts, find, light, closed))


def _board(who: Actor, parts: Services, find: str, light: str, closed: bool) -> dict[str, Any]:
    found = read_board(parts.site, dt.datetime.now(dt.UTC), closed=closed, reader=parts.reader)
    seen = [row for row in found.rows if _seen(row.case, who, parts)]
    chosen = [row for row in seen if find.lower() in row.case.lower() and light in ("", row.light)]
    return {"rows": chosen, "all": len(seen), "level": found.level, "find": find, "light": light, "closed": closed}


def _seen(case: str, who: Actor, parts: Services) -> bool:
    try:
        return visible(parts.cases.view(case), who)
    except Refusal:
        return False
