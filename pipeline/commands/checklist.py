"""The checklist of a device family on the command line: asked for point by point on a terminal, or confirmed by a flag."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

_ALL = "all"
CheckedOption = Annotated[
    str, typer.Option("--checked", help="With --approve: ids of the checklist's points that you confirm, or `all`.")
]


def ticked_points(family: str, checked: str) -> tuple[str, ...] | None:
    """The points of a family's checklist that a person confirmed one by one; None: all at once.

    Parameters
    ----------
    checked
        ``all``, or ids separated by commas; empty: asked for on a terminal.

    Raises
    ------
    OrderError
        A point is not confirmed, or there is no such point.
    """
    from batchone.design.families import load_families
    from batchone.pipeline.case_approval import confirmed_points

    if checked.strip() == _ALL:
        return None
    ticked = tuple(word for word in (word.strip() for word in checked.split(",")) if word)
    if not ticked and sys.stdin.isatty() and sys.stderr.isatty():
        points = load_families()[family].limits.checklist
        ticked = tuple(name for name, point in points.items() if typer.confirm(f"{name}: {point.text}", err=True))
    confirmed_points(family, ticked)
    return ticked
