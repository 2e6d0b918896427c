"""``events.jsonl``: who did what to a case, when, and with what meaning; append-only and chained by digest.

One writer at a time (flock); each line is flushed to the disk; a last line torn by a crash is cut, and the cut is recorded.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from pathlib import Path

from batchone.pipeline.disk import disk

_START = "0" * 64


def append_event(path: Path, *, who: str, what: str, when: str, meaning: str = "", digest: str = "") -> str:
    """Append one event and return the new head of the chain (SHA-256, hex).

    Parameters
    ----------
    path
        The ``events.jsonl`` of a case; made when absent.
    who, what, when, meaning, digest
        Actor, action, time (ISO 8601, UTC), meaning of a signature, digest of what it is about.
    """
    with disk(), path.open("a+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        stream.seek(0)
        data = stream.read()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            stream.truncate(len(whole))
            note = f"{len(data) - len(whole)} bytes of a torn line were cut"
            whole += _append(stream.fileno(), whole, {"who": "batchone", "what": note, "when": when, "meaning": "", "digest": ""})
        line = _append(stream.fileno(), whole, {"who": who, "what": what, "when": when, "meaning": meaning, "digest": digest})
    return hashlib.sha256(line).hexdigest()


def chain_head(path: Path) -> str | None:
    """Head of the chain when every line names the one before it; None when the chain is broken."""
    head = _START
    data = path.read_bytes() if path.exists() else b""
    for line in data.splitlines(keepends=True):
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            return None
        if not isinstance(event, dict) or event.get("previous") != head:
            return None
        head = hashlib.sha256(line).hexdigest()
    return head


def _append(handle: int, before: bytes, event: dict[str, str]) -> bytes:
    last = before.splitlines(keepends=True)[-1:] if before else []
    event = {**event, "previous": hashlib.sha256(last[0]).hexdigest() if last else _START}
    line = json.dumps(event, sort_keys=True, ensure_ascii=False).encode() + b"\n"
    os.write(handle, line)
    os.fsync(handle)
    return line
