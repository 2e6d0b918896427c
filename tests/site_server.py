"""A real server of a site for tests: uvicorn on a free port of loopback, with a clock that the test moves."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import uvicorn

from batchone.pipeline.config import ServerSettings
from batchone.pipeline.serve.app import make_app
from batchone.pipeline.serve.passwords import digest_of
from batchone.pipeline.serve.services import Services, make_services

PASSWORD = "a long password of a test"
DEVICE = "d" * 64
JOB = "0123456789abcdef"


@cache
def _password_digest() -> str:
    return digest_of(PASSWORD)


@dataclass
class Clock:
    """The time, in seconds since the epoch; ``ahead_s`` is moved by the test."""

    ahead_s: float = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_s


@dataclass
class SiteServer:
    """A running server and how to speak to it."""

    site: Path
    url: str
    services: Services
    clock: Clock
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=120.0))
    _tokens: dict[tuple[str, str], str] = field(default_factory=dict)

    def person(self, role: str, hospital: str = "") -> str:
        """The name of an account with one role, made at the first call; its password is PASSWORD."""
        name = f"{role}-{hospital}" if hospital else role
        if self.services.accounts.find(name) is None:
            with self.services.store.transaction() as opened:  # as if made and its password changed; one hash for all
                values = (name, _password_digest(), role, hospital, self.clock())
                opened.execute("INSERT INTO accounts VALUES (?, ?, ?, ?, 0, 0, ?)", values)
        return name

    def headers(self, role: str, hospital: str = "H-1") -> dict[str, str]:
        """The header with a token of a role; none for ``anyone``."""
        if role == "anyone":
            return {}
        hospital = hospital if role == "hospital" else ""
        if (role, hospital) not in self._tokens:
            made = self.services.credentials.make_token(self.person(role, hospital), role, days=30, label="")
            assert made is not None
            self._tokens[role, hospital] = made[1]
        return {"Authorization": f"Bearer {self._tokens[role, hospital]}"}

    def ask(self, method: str, path: str, role: str = "anyone", hospital: str = "H-1", **options: Any) -> httpx.Response:
        """Send one request."""
        headers = self.headers(role, hospital) | options.pop("headers", {})
        self.client.cookies.clear()
        return self.client.request(method, self.url + path, headers=headers, **options)


@contextmanager
def serving(site: Path, settings: ServerSettings | None = None, clock: Clock | None = None) -> Iterator[SiteServer]:
    """A server of a site, on a free port."""
    clock = clock or Clock()
    services = make_services(site, settings=settings or ServerSettings(), clock=clock)
    listening = socket.create_server(("127.0.0.1", 0), backlog=512)
    server = uvicorn.Server(
        uvicorn.Config(make_app(services), log_config=None, access_log=False, lifespan="on", timeout_graceful_shutdown=1)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        found = SiteServer(site, f"http://127.0.0.1:{listening.getsockname()[1]}", services, clock)
        with found.client:
            yield found
    finally:
        server.should_exit = True
        thread.join()
        listening.close()


def make_case(site: Path, case: str, *, hospital: str = "H-1", released: bool = False) -> Path:
    """A case folder as a parcel and the stages leave it, up to a checked device, or to a released job."""
    from batchone.pipeline import codec
    from batchone.pipeline.events import append_event
    from batchone.pipeline.job.sums import sha256
    from batchone.pipeline.store import CaseFolder
    from batchone.pipeline.values import CheckedDevice, Device, JobFolder

    folder = CaseFolder(site / "cases" / case)
    (folder.path / "parcel.json").write_text(json.dumps({"digest": "0" * 64, "sender": hospital, "images": 3, "warnings": []}))
    append_event(folder.path / "events.jsonl", who="batchone", what="study received", when="2026-01-01T00:00:00+00:00")
    checked = CheckedDevice(Device("anatomical-model", ()), ())
    digest = codec.digest(checked)

    def publish(stage: str, value: Any, taken: dict[str, str], value_digest: str) -> None:
        def write(into: Path) -> dict[str, Any]:
            if value is not None:
                codec.save(value, into)
            started = "2026-01-01T00:00:00+00:00"
            return {"seconds": 1.0, "started": started, "taken": taken, "value_digest": value_digest, "findings": {"$tuple": []}}

        folder.publish(stage, write)

    publish("check", checked, {}, digest)
    if released:
        publish("review", None, {"CheckedDevice": digest}, "")
        publish("job", JobFolder(JOB, f"job/{JOB}", "0" * 64), {"CheckedDevice": digest, "Approval": ""}, "")
        job = folder.path / "job" / JOB
        files = {
            "job.json": b"{}\n",
            "build/layers.cli": bytes(700_000),
            "clinical-report.pdf": b"%PDF\n",
            "dicom/report.dcm": b"DICM",
        }
        for name, data in files.items():
            (job / name).parent.mkdir(parents=True, exist_ok=True)
            (job / name).write_bytes(data)
        (job / "SHA256SUMS").write_text("".join(f"{sha256(data)}  {name}\n" for name, data in sorted(files.items())))
        (job / "SHA256SUMS.sig").write_text("signature\n")
    return folder.path
