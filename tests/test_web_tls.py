"""DICOMweb over TLS, in and out, against Orthanc: only a server whose certificate is known, valid and its own is spoken to."""

from __future__ import annotations

import json
import os
import socket
import socketserver
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import certificates
import dicom_case
import httpx
import pydicom
import pytest
from typer.testing import CliRunner, Result

from batchone.pipeline.cli import app
from batchone.pipeline.errors import MachineError

pytestmark = pytest.mark.slow

PROGRAM = Path("/usr/sbin/Orthanc")
STARTS_S = 60.0  # on a busy machine


class Archive:
    """A running Orthanc that holds the original CT. It speaks plain HTTP on loopback (Debian's ends itself at the first TLS
    connection); a relay in front of it speaks TLS, as reverse proxies do in hospitals.
    """

    def __init__(self) -> None:
        self.plain, self.ports = _free_port(), dict[str, int]()

    def url(self, certificate: str, host: str = "localhost") -> str:
        return f"https://{host}:{self.ports[certificate]}/dicom-web"

    def ask(self, method: str, path: str, content: bytes = b"") -> httpx.Response:
        with httpx.Client(trust_env=False, auth=("tester", "secret")) as client:
            return client.request(method, f"http://127.0.0.1:{self.plain}/{path}", content=content).raise_for_status()

    def modalities(self) -> list[str]:
        return sorted(one["MainDicomTags"]["Modality"] for one in self.ask("GET", "series?expand").json())


class Relay(socketserver.ThreadingTCPServer):
    """Takes TLS connections and passes what they say to a port of the same machine, and back."""

    daemon_threads = True

    def __init__(self, certificate: str, key: str, port: int) -> None:
        self.port, self.tls = port, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(certificate, key)
        super().__init__(("127.0.0.1", 0), RelayHandler)


class RelayHandler(socketserver.BaseRequestHandler):
    server: Relay

    def handle(self) -> None:
        try:
            outside = self.server.tls.wrap_socket(self.request, server_side=True)
        except OSError:
            return  # the caller did not like the certificate
        with outside, socket.create_connection(("127.0.0.1", self.server.port)) as inside:
            back = threading.Thread(target=_pass_on, args=(inside, outside), daemon=True)
            back.start()
            _pass_on(outside, inside)
            back.join()


def _pass_on(giver: socket.socket, taker: socket.socket) -> None:
    with suppress(OSError):
        while piece := giver.recv(1 << 16):
            taker.sendall(piece)
    with suppress(OSError):
        taker.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A job beside the identity that its own case folder read."""
    made = dicom_case.make_job(tmp_path_factory.mktemp("case"))
    identity = {name: getattr(made.identity, name) for name in made.identity.__slots__}
    (made.case / "intake").mkdir()
    (made.case / "intake" / "identity.json").write_text(json.dumps(identity))
    return made


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return certificates.Authority(tmp_path_factory.mktemp("tls") / "certificates")


@pytest.fixture(scope="module")
def archive(made: Any, authority: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    """An archive that shows a valid certificate for localhost on one port, and one that has expired on another."""
    if not PROGRAM.exists():
        assert not os.environ.get("CI"), "Orthanc is not installed"
        pytest.skip("Orthanc is not installed")
    with _orthanc(tmp_path_factory.mktemp("orthanc")) as archive, ExitStack() as running:
        for path in made.images:
            archive.ask("POST", "instances", path.read_bytes())
        for name, days in (("valid", (-1, 30)), ("expired", (-20, -1))):
            relay = running.enter_context(Relay(*authority.issue(name, days=days), archive.plain))
            running.callback(relay.shutdown)
            threading.Thread(target=relay.serve_forever, args=(0.05,), daemon=True).start()
            archive.ports[name] = relay.server_address[1]
        yield archive


@contextmanager
def _orthanc(folder: Path) -> Iterator[Archive]:
    archive = Archive()
    config = {
        "StorageDirectory": str(folder),
        "IndexDirectory": str(folder),
        "HttpPort": archive.plain,
        "DicomServerEnabled": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {"tester": "secret"},
        "UnknownSopClassAccepted": True,
        "Plugins": ["/usr/share/orthanc/plugins/libOrthancDicomWeb.so"],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(config))
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen([PROGRAM, folder / "orthanc.json"], stdout=log, stderr=log)
    try:
        until = time.monotonic() + STARTS_S
        while "Orthanc has started" not in (folder / "log.txt").read_text(errors="replace"):
            assert process.poll() is None, (folder / "log.txt").read_text(errors="replace")
            assert time.monotonic() < until
            time.sleep(0.05)
        yield archive
    finally:
        process.terminate()
        process.wait(STARTS_S)


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BATCHONE_DICOMWEB_PASSWORD", "secret")
    monkeypatch.setenv("BATCHONE_HOSPITAL", str(tmp_path / "keep"))


def receive(made: Any, url: str, tmp_path: Path, *options: str) -> Result:
    study = str(pydicom.dcmread(made.images[0]).StudyInstanceUID)
    asked = ["receive", "--from", url, "--study", study, "--user", "tester", "--to", str(tmp_path / "site"), "--json", *options]
    return CliRunner().invoke(app, asked)


def give_back(made: Any, url: str, *options: str) -> Result:
    return CliRunner().invoke(app, ["return", str(made.job), "--to", url, "--user", "tester", "--json", *options])


def test_a_study_comes_and_a_job_goes_over_tls(made: Any, archive: Archive, authority: Any, tmp_path: Path) -> None:
    trust = ("--tls-ca", authority.certificate)
    came = receive(made, archive.url("valid"), tmp_path, *trust)
    assert came.exit_code == 0, came.output
    (case,) = json.loads(came.stdout)["cases"]
    assert case["images"] == len(made.images)
    went = give_back(made, archive.url("valid"), *trust)
    assert went.exit_code == 0, went.output
    assert json.loads(went.stdout)["complete"]
    assert archive.modalities() == ["CT", "DOC", "M3D", "SEG"]
    for series in archive.ask("GET", "series?expand").json():
        if series["MainDicomTags"]["Modality"] != "CT":
            archive.ask("DELETE", f"series/{series['ID']}")


@pytest.mark.parametrize(
    ("certificate", "host", "trusted", "told"),
    [
        ("expired", "localhost", True, "certificate has expired"),
        ("valid", "localhost", False, "unable to get local issuer certificate"),
        ("valid", "127.0.0.1", True, "IP address mismatch, certificate is not valid for '127.0.0.1'"),
    ],
    ids=["expired", "of an unknown authority", "of another name"],
)
def test_a_server_that_cannot_show_who_it_is_gets_nothing(
    made: Any, archive: Archive, authority: Any, tmp_path: Path, certificate: str, host: str, trusted: bool, told: str
) -> None:
    trust = ("--tls-ca", authority.certificate) if trusted else ()
    url = archive.url(certificate, host)
    for done in (receive(made, url, tmp_path, *trust), give_back(made, url, *trust)):
        assert isinstance(done.exception, MachineError), done.output
        assert f"TLS: {told}" in str(done.exception)
    assert not (tmp_path / "site" / "cases").exists()
    assert archive.modalities() == ["CT"]
