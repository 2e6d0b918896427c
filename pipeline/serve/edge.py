"""The outermost ring: security headers, a bound on bodies, one structured log line and one count for each request.

A log line names the route by its template, never the path, the query, an account or an address.
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from batchone.pipeline.serve.metrics import Requests
from batchone.pipeline.serve.page import STYLE_HASH

MOST_BODY_BYTES = 65_536  # of JSON; the bytes of an upload are bounded by their announcement
MOST_PLAN_BYTES = 2_000_000  # of a plan from 3D Slicer: twice what an order may hold, for it also says how things look
_STREAMED = (("PATCH", "/uploads/"), ("PUT", "/records/"))  # whose routes bound what they read
_PLAN = "/plan"
_ALWAYS = (
    (
        b"content-security-policy",
        f"default-src 'none'; style-src '{STYLE_HASH}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'".encode(),
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_TLS_ONLY = (b"strict-transport-security", b"max-age=31536000")
_log = logging.getLogger(__name__)


class Edge:
    """ASGI middleware around the whole application.

    Parameters
    ----------
    https
        Whether browsers reach the server by TLS, its own or a proxy's.
    """

    def __init__(self, app: ASGIApp, *, requests: Requests, https: bool) -> None:
        self._app = app
        self._requests = requests
        self._headers = [*_ALWAYS, *([_TLS_ONLY] if https else [])]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def answered(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                given = list(message.get("headers", ()))
                named = {name.lower() for name, _ in given}  # a page has a policy of its own
                message["headers"] = given + [(name, text) for name, text in self._headers if name not in named]
            await send(message)

        upload = any(scope["method"] == method and path in scope["path"] for method, path in _STREAMED)
        most = MOST_PLAN_BYTES if scope["path"].endswith(_PLAN) else MOST_BODY_BYTES
        try:
            await self._app(scope, receive if upload else _bounded(receive, most), answered)
        finally:
            seconds = time.perf_counter() - began
            route = getattr(scope.get("route"), "path", "none")
            self._requests.observe(scope["method"] if route != "none" else "any", route, status, seconds)
            _log.info(
                "request",
                extra={"fields": {"method": scope["method"], "route": route, "status": status, "seconds": round(seconds, 4)}},
            )


def _bounded(receive: Receive, most: int) -> Receive:
    came = 0

    async def bounded() -> Message:
        nonlocal came
        message = await receive()
        came += len(message.get("body", b""))
        if came > most:
            raise HTTPException(413, f"the body has more than {most} bytes")
        return message

    return bounded


class JsonLines(logging.Formatter):
    """One JSON document a line. Of an error only its kind and place: its text may quote what was read."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        tree: dict[str, object] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            trace = error.__traceback__
            while trace is not None and trace.tb_next is not None:
                trace = trace.tb_next
            where = "" if trace is None else f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
            tree |= {"error": type(error).__name__, "where": where, "id": secrets.token_hex(4)}
        return json.dumps(tree, ensure_ascii=False)
