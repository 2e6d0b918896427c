"""``batchone serve`` as a process of its own, over TLS: from the printed password to a case that a hospital submitted."""

from __future__ import annotations

import hashlib
import json
import os
import re
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import certificates
import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from batchone.pipeline.cli import app
from batchone.pipeline.serve.guard import COOKIE, CSRF_HEADER
from batchone.samples.dicom import write_series

ORDER = (
    'case = "case-0001"\ndevice = "anatomical-model"\nside = "left"\nprocess = "pa12-sls"\nmachine = "sim-01"\n'
    "due = 2026-02-01T08:00:00Z\n"
)
MEGABYTES = 60
MOST_MB = 24.0  # above start: blocks of 1 MB on their way, the buffers of TLS and of the sockets; the parcel itself has 60 MB
HEAVY = ("SimpleITK", "numba", "llvmlite", "/scipy/", "vtkmodules", "/OCP", "manifold3d", "matplotlib")


@contextmanager
def _started(*arguments: str) -> Iterator[tuple[int, str, str]]:
    """Process id, address and one-time password of a server in a process of its own."""
    command = [sys.executable, "-m", "batchone.pipeline", "serve", "--port", "0", "--no-worker", *arguments]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        said = ""
        try:
            while '"listening"' not in said:
                line = server.stderr.readline()
                assert line, said
                said += line
            port = re.search(r'"address": "https?://[^"]*:(\d+)"', said)
            password = re.search(r"one-time password (\S+) ", said)
            assert port is not None
            yield server.pid, f"localhost:{port[1]}", "" if password is None else password[1]
        finally:
            server.terminate()
            assert server.wait(timeout=30) in (0, -15)


class Person:
    """Somebody with a browser: keeps the cookie and the CSRF token."""

    def __init__(self, browser: httpx.Client, name: str, password: str) -> None:
        self._browser = browser
        told = browser.post("/sign-in", json={"name": name, "password": password}).raise_for_status().json()
        assert COOKIE in browser.cookies
        self._headers = {CSRF_HEADER: told["csrf"], "Origin": f"https://{browser.base_url.netloc.decode()}"}

    def do(self, method: str, path: str, tree: Any = None) -> Any:
        answer = self._browser.request(method, path, json=tree, headers=self._headers).raise_for_status()
        return answer.json() if answer.content else None


def test_from_the_printed_password_to_a_submitted_case_with_memory_that_stays_flat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = certificates.Authority(tmp_path / "tls")
    certificate, key = authority.issue("server", days=(-1, 1))
    tls = ssl.create_default_context(cafile=authority.certificate)
    site = tmp_path / "site"
    with ExitStack() as opened:
        pid, address, one_time = opened.enter_context(_started("--site", str(site), "--tls-cert", certificate, "--tls-key", key))
        url = f"https://{address}"
        browser = opened.enter_context(httpx.Client(base_url=f"{url}/api/v1", verify=tls, timeout=60.0))
        Person(browser, "admin", one_time).do("POST", "/me/password", {"old": one_time, "new": "the admin's own password"})
        admin = Person(browser, "admin", "the admin's own password")
        first = admin.do("POST", "/accounts", {"name": "ward", "roles": ["hospital"], "hospital": "H-1"})["one_time_password"]
        Person(browser, "ward", first).do("POST", "/me/password", {"old": first, "new": "the ward's own password"})
        ward = Person(browser, "ward", "the ward's own password")
        token = ward.do("POST", "/tokens", {"role": "hospital", "label": "submit"})["secret"]

        bearer = {"Authorization": f"Bearer {token}"}
        client = opened.enter_context(httpx.Client(base_url=f"{url}/api/v1", verify=tls, headers=bearer, timeout=120.0))
        parcel = os.urandom(1_000_000) * MEGABYTES
        digest = hashlib.sha256(parcel).hexdigest()
        client.post("/uploads", json={"digest": digest, "bytes": len(parcel)}).raise_for_status()
        Path(f"/proc/{pid}/clear_refs").write_text("5")
        before_mb = _memory_mb(pid, "VmRSS:")
        sent = client.patch(f"/uploads/{digest}", content=parcel[:-1], headers={"Upload-Offset": "0"}).raise_for_status().json()
        assert (sent["state"], sent["offset"]) == ("open", len(parcel) - 1)
        assert _memory_mb(pid, "VmHWM:") - before_mb < MOST_MB
        loaded = Path(f"/proc/{pid}/maps").read_text()
        assert not [name for name in HEAVY if name in loaded]

        hu = np.full((24, 48, 48), -1000, dtype=np.int16)
        hu[:, 8:40, 8:40] = 40
        hu[:, 16:32, 18:28] = 900
        write_series(hu, np.diag([0.5, 0.5, 1.0, 1.0]), tmp_path / "study")
        (tmp_path / "order.toml").write_text(ORDER)
        monkeypatch.setenv("BATCHONE_TOKEN", token)
        arguments = [
            "submit",
            str(tmp_path / "order.toml"),
            str(tmp_path / "study"),
            "--to",
            url,
            "--keep",
            str(tmp_path / "keep"),
        ]
        done = CliRunner().invoke(app, [*arguments, "--json", "--tls-ca", authority.certificate])
        assert done.exception is None, done.exception
        told = json.loads(done.stdout)
        assert (told["case"], told["status"], told["new"], told["folder"]) == ("case-0001", "received", True, None)
        assert client.get("/cases/case-0001").json()["status"] == "received"
        assert client.get("/cases/case-0001").headers["strict-transport-security"]
        unknown = CliRunner().invoke(app, arguments)  # an authority that it does not know
        assert getattr(unknown.exception, "exit_code", None) == 5


def _memory_mb(pid: int, name: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(name))
