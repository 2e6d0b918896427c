"""A PostgreSQL server of a test's own, on a free port of loopback."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_USER = "postgres"  # the server refuses to run as root


class Postgres:
    """A running server; ``url`` names its database."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder, self._port = folder, port
        self.url = f"postgresql://{_USER}@127.0.0.1:{port}/postgres"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-p {self._port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={self._folder} -c fsync=off"
        _run("pg_ctl", "-D", str(self._folder / "data"), "-l", str(self._folder / "log"), "-w", "-o", options, "start")

    def stop(self) -> None:
        """Stop it at once, as a crash would."""
        _run("pg_ctl", "-D", str(self._folder / "data"), "-m", "immediate", "stop")


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Make a server in a temporary folder of its own user, and end it afterwards."""
    if _found("initdb") is None and not os.environ.get("CI"):
        pytest.skip("needs the Debian package postgresql")
    folder = Path(tempfile.mkdtemp(prefix="batchone-postgres-"))
    if os.geteuid() == 0:
        shutil.chown(folder, _USER)
    _run("initdb", "-D", str(folder / "data"), "-U", _USER, "--auth=trust", "--no-sync")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    server = Postgres(folder, port)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)


def _found(program: str) -> str | None:
    """Where a program of the server lies; Debian keeps them off the path."""
    paths = sorted(map(str, Path("/usr/lib/postgresql").glob(f"*/bin/{program}")))
    return shutil.which(program) or next(iter(paths), None)


def _run(program: str, *arguments: str) -> None:
    found = _found(program)
    assert found is not None, f"{program} is missing: apt-get install postgresql"
    command = [found, *arguments]
    if os.geteuid() == 0:
        command = ["runuser", "-u", _USER, "--", *command]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, cwd="/", timeout=60)
