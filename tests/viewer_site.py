"""A server with the viewer's routes, its static files and one page, for tests: as the review pages show it, with a strict CSP."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles

from batchone.pipeline.serve.pages.scene_routes import scene_router
from batchone.pipeline.serve.refusal import Refusal, unknown
from batchone.pipeline.store import CaseFolder

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE = """<!doctype html><html lang="en" class="{theme}"><head><meta charset="utf-8"><title>Viewer</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
<link rel="stylesheet" href="/page.css"><link rel="stylesheet" href="/static/viewer.css">
<script type="module" src="/static/viewer.js"></script></head>
<body><h1>Case {case}</h1><div id="viewer" data-scene="/review/{case}/scene"></div></body></html>"""
_CSS = """body{margin:1rem;background:var(--bg);color:var(--fg);font-family:system-ui,sans-serif}h1{font-size:1.1rem}
.light{--bg:#fff;--fg:#14181f;--accent:#0b62c4;--line:#d0d5dd}
.dark{--bg:#14181f;--fg:#e8ecf2;--accent:#6cb0ff;--line:#394150}"""


@contextmanager
def viewer_site(cases: Path) -> Iterator[str]:
    """The address of a server of the cases in a folder, on a free port of loopback; ``/CASE`` is the page."""

    def folder(request: Request, case: str) -> CaseFolder:
        if not (cases / case).is_dir() or request.headers.get("x-who") == "stranger":
            raise unknown("case")
        return CaseFolder(cases / case)

    app = FastAPI(openapi_url=None)
    app.include_router(scene_router(folder, lambda _: True))
    app.mount("/static", StaticFiles(directory=str(files("batchone.pipeline.serve") / "static")))

    @app.exception_handler(Refusal)
    async def refused(request: Request, error: Refusal) -> JSONResponse:
        return JSONResponse(error.tree(), error.status, error.headers)

    @app.get("/page.css")
    def style() -> Response:
        return Response(_CSS, media_type="text/css")

    @app.get("/{case}")
    def page(case: str, theme: str = "dark") -> HTMLResponse:
        return HTMLResponse(_PAGE.format(case=case, theme=theme), headers={"Content-Security-Policy": CSP})

    listening = socket.create_server(("127.0.0.1", 0), backlog=64)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()
