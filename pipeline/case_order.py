"""The order of a case, as it lies in its folder: read against the families, and put in place changed."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

from batchone.design.families import load_families
from batchone.pipeline import codec
from batchone.pipeline.case_decisions import refuse_ended
from batchone.pipeline.events import EVENTS, append_event
from batchone.pipeline.markups.order_file import read_order_file
from batchone.pipeline.order import Order, order_text
from batchone.pipeline.store import CaseFolder, write_atomic

ORDER = "order.toml"


def read_case_order(path: Path) -> Order:
    """Read an order, with the markups that its plan names, against the families that are installed."""
    return read_order_file(path, {name: family.parameters for name, family in load_families().items()})


def order_digest(order: Order) -> str:
    """SHA-256 (hex) of what an order says."""
    return codec.tree_digest(json.loads(order.model_dump_json()))


def replace_order(case: CaseFolder, order: Order, who: str) -> None:
    """Put a changed order in place and say so in the events; the caller holds the case's lock.

    Raises
    ------
    OrderError
        The case was ended.
    """
    refuse_ended(case)
    write_atomic(case.path / ORDER, order_text(order).encode())
    now = dt.datetime.now(dt.UTC).isoformat()
    append_event(case.path / EVENTS, who=who, what="order changed", when=now, digest=order_digest(order))
