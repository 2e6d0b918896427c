"""`batchone receive` as a hospital meets it: a process of its own, sent to by dcmtk's storescu, read from Orthanc."""

from __future__ import annotations

import importlib.resources
import importlib.util
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import certificates
import jsonschema
import numpy as np
import pydicom
import pytest
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.dimse_primitives import C_STORE

from batchone.pipeline.errors import MachineError
from batchone.pipeline.hospital.tls import server_tls
from batchone.samples.dicom import write_series

SLICES, SIDE = 10, 32
IMAGE_BYTES = 2 * SIDE * SIDE
STARTS_S = 60.0  # on a busy machine; loading the libraries alone takes seconds there
IDENTITIES = ("TEST^", "TEST-0", "TEST-A", "1.2.826.", "19700101")
ORDER = """
case = "receive-0001"
device = "anatomical-model"
side = "midline"
process = "pa12-sls"
machine = "sim-01"
due = 2026-11-24T08:00:00Z
"""


def program(path: str) -> str:
    """dcmtk's or Orthanc's own program: others of the same name lie in Python environments."""
    if not Path(path).exists():
        reason = f"{path} is not installed"
        assert not os.environ.get("CI"), reason
        pytest.skip(reason)
    return path


def head(folder: Path, *, seed: int, side: int = SIDE) -> Path:
    """A small sound CT study."""
    hu = np.full((SLICES, side, side), -1000, dtype=np.int16)
    hu[:, side // 4 : -side // 4, side // 4 : -side // 4] = 40
    hu[:, side // 3 : side // 2, side // 3 : side // 2] = 700 + seed
    write_series(hu, np.diag([0.5, 0.5, 1.0, 1.0]), folder, seed=seed)
    return folder


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


class Receiver:
    """A running `batchone receive`."""

    def __init__(self, folder: Path, *options: str, blocks: int | None = None, listens: bool = True) -> None:
        folder.mkdir(exist_ok=True)
        self.site, self.keep = folder / "site", folder / "keep"
        self.out, self.log = folder / "out.json", folder / "log.txt"
        command = [sys.executable, "-m", "batchone.pipeline", "receive", "--json", *options]
        command += ["--to", str(self.site), "--keep", str(self.keep)]
        if listens:
            command += ["--port", "0", "--allow", "SCANNER"]
        if blocks is not None:
            command = ["bash", "-c", f'ulimit -S -f {blocks}; exec "$@"', "bash", *command]
        with self.out.open("wb") as out, self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=out, stderr=log)
        self.port = int(self.told("listening on 127.0.0.1:").split()[0]) if listens else 0

    def told(self, text: str, *, times: int = 1) -> str:
        """Wait for a log line; returns what follows the text in it."""
        until = time.monotonic() + STARTS_S
        while time.monotonic() < until:
            lines = [line for line in self.log.read_text().splitlines() if text in line]
            if len(lines) >= times:
                return lines[times - 1].partition(text)[2]
            assert self.process.poll() is None, f"ended without {text!r}:\n{self.log.read_text()}"
            time.sleep(0.05)
        raise AssertionError(f"never told {text!r}:\n{self.log.read_text()}")

    def end(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(STARTS_S)

    def document(self) -> dict[str, Any]:
        """What it printed when it ended, checked against its schema."""
        self.process.wait(STARTS_S)
        tree: dict[str, Any] = json.loads(self.out.read_text())
        schema = importlib.resources.files("batchone.pipeline").joinpath("schemas/receive.schema.json").read_text()
        jsonschema.validate(tree, json.loads(schema))
        return tree

    def cases(self) -> list[Path]:
        return sorted((self.site / "cases").glob("[!.]*")) if (self.site / "cases").is_dir() else []


Start = Callable[..., Receiver]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts receivers; afterwards none of them runs, and none of their log lines names the patient."""
    started: list[Receiver] = []

    def one(*options: str, **more: Any) -> Receiver:
        started.append(Receiver(tmp_path / "hospital", *options, **more))
        return started[-1]

    yield one
    for receiver in started:
        receiver.end(signal.SIGKILL)
        log = receiver.log.read_text()
        assert not [word for word in IDENTITIES if word in log], log
        assert "Traceback" not in log, log


def storescu(port: int, *options: str, calling: str = "SCANNER", called: str = "BATCHONE") -> subprocess.CompletedProcess[str]:
    """dcmtk's storescu."""
    tool = program("/usr/bin/storescu")
    command = [tool, "-aet", calling, "-aec", called, "127.0.0.1", str(port), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_study_sent_by_storescu_becomes_a_case_and_strangers_are_told_why_not(start: Start, tmp_path: Path) -> None:
    study = head(tmp_path / "study", seed=1)
    receiver = start("--quiet", "0.5")

    stranger = storescu(receiver.port, "+sd", str(study), calling="STRANGER")
    assert stranger.returncode != 0
    assert "Calling AE Title Not Recognized" in stranger.stderr
    assert "calling AE title 'STRANGER' is not on the list" in receiver.log.read_text()
    misled = storescu(receiver.port, "+sd", str(study), called="ANOTHER")
    assert "Called AE Title Not Recognized" in misled.stderr
    echo = [program("/usr/bin/echoscu"), "-aet", "SCANNER", "-aec", "BATCHONE", "127.0.0.1", str(receiver.port)]
    subprocess.run(echo, check=True, timeout=60)
    assert receiver.cases() == []

    with ThreadPoolExecutor(2) as pool:  # the same study twice, at once
        sent = list(pool.map(lambda _: storescu(receiver.port, "+sd", str(study)), range(2)))
    assert [one.returncode for one in sent] == [0, 0], sent
    receiver.told(" is there")
    assert storescu(receiver.port, "+sd", str(study)).returncode == 0  # and once more, later
    receiver.told(" was there already")

    assert receiver.end(signal.SIGTERM) == 0
    (case,) = receiver.cases()
    tree = receiver.document()
    assert [(one["case"], one["new"], one["images"]) for one in tree["cases"]] == [
        (case.name, True, SLICES),
        (case.name, False, SLICES),
    ]
    assert tree["waiting"] == []
    images = [pydicom.dcmread(path) for path in sorted((case / "study").iterdir())]
    assert len(images) == SLICES
    assert {str(image.PatientIdentityRemoved) for image in images} == {"YES"}
    assert not list(receiver.keep.glob("spool/*/*/studies/*"))
    assert (receiver.keep.stat().st_mode | next(receiver.keep.glob("spool/*")).stat().st_mode) & 0o077 == 0


def test_over_tls_only_a_sender_with_a_valid_certificate_comes_in(start: Start, tmp_path: Path) -> None:
    study = head(tmp_path / "study", seed=2)
    authority = certificates.Authority(tmp_path / "certificates")
    own, own_key = authority.issue("own", days=(-1, 30))
    good, good_key = authority.issue("good", days=(-1, 30))
    old, old_key = authority.issue("old", days=(-20, -1))
    with pytest.raises(MachineError, match=r"the TLS certificate is valid from .* must be valid now"):
        server_tls(Path(old), Path(old_key), None)
    files = ("--tls-cert", own, "--tls-key", own_key, "--tls-ca", authority.certificate)
    receiver = start("--quiet", "0.5", *files)
    receiver.told("TLS with client certificates")

    trust = ("+cf", authority.certificate)
    plain = storescu(receiver.port, "+sd", str(study))
    anonymous = storescu(receiver.port, "+tla", *trust, "+sd", str(study))
    expired = storescu(receiver.port, "+tls", old_key, old, *trust, "+sd", str(study))
    assert 0 not in (plain.returncode, anonymous.returncode, expired.returncode)
    receiver.told("TLS refused: its certificate is not accepted: certificate has expired")
    receiver.told("TLS refused: it gave no certificate, one is needed")
    receiver.told("TLS refused: ", times=3)
    assert receiver.cases() == []

    sent = storescu(receiver.port, "+tls", good_key, good, *trust, "+sd", str(study))
    assert sent.returncode == 0, sent
    receiver.told(" is there")
    assert len(receiver.cases()) == 1
    assert receiver.end(signal.SIGINT) == 130
    assert len(receiver.document()["cases"]) == 1


@contextmanager
def associate(port: int) -> Iterator[Association]:
    """An association of a sender of our own; what pynetdicom leaves open when the other side dies is closed."""
    entity = AE("SCANNER")
    entity.add_requested_context("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1")
    association = entity.associate("127.0.0.1", port, ae_title="BATCHONE")
    assert association.is_established
    assert association.dul.socket is not None
    with closing(association.dul.socket.socket or socket.socket()):
        yield association


def send_half_an_image(association: Association, path: Path) -> None:
    """The command and the first half of the data of a C-STORE request."""
    image = pydicom.dcmread(path)
    request = C_STORE()
    request.MessageID, request.Priority = 77, 2
    request.AffectedSOPClassUID, request.AffectedSOPInstanceUID = image.SOPClassUID, image.SOPInstanceUID
    request.DataSet = BytesIO(path.read_bytes()[-IMAGE_BYTES:])
    message = C_STORE_RQ()
    message.primitive_to_message(request)
    pieces = list(message.encode_msg(association.accepted_contexts[0].context_id or 1, 512))
    for piece in pieces[: len(pieces) // 2]:
        association.dul.send_pdu(piece)
    time.sleep(0.3)


def test_a_receiver_killed_in_the_middle_goes_on_with_its_spool_and_its_order(start: Start, tmp_path: Path) -> None:
    study, order = head(tmp_path / "study", seed=3), tmp_path / "order.toml"
    order.write_text(ORDER)
    paths = sorted(study.iterdir())
    options = ("--quiet", "0.5", "--order", str(order))
    first = start(*options)
    with associate(first.port) as association:
        for path in paths[:6]:
            assert association.send_c_store(path).Status == 0x0000
        send_half_an_image(association, paths[6])
        first.end(signal.SIGKILL)
        association.abort()
    spool = next(first.keep.glob("spool/*/listener"))
    assert len(list(spool.glob("studies/*/objects/*.dcm"))) == 6  # what was answered with success is there
    assert list(spool.glob("incoming/*.part"))

    again = start(*options)
    again.told("goes on: 6 images are here")
    assert not list(spool.glob("incoming/*"))
    again.told("waits: incomplete")
    with associate(again.port) as association:
        for path in paths[6:]:  # the rest alone
            assert association.send_c_store(path).Status == 0x0000
        association.release()
    assert again.process.wait(STARTS_S) == 0, again.log.read_text()  # it ends by itself: the order has its study
    assert [one["case"] for one in again.document()["cases"]] == ["receive-0001"]
    (case,) = again.cases()
    assert (case / "order.toml").exists()
    assert len(list((case / "study").iterdir())) == SLICES


def test_a_full_disk_is_told_to_the_sender_and_loses_nothing(start: Start, tmp_path: Path) -> None:
    study = head(tmp_path / "study", seed=4, side=256)  # 131 kB an image
    receiver = start("--quiet", "0.5", blocks=96)  # no file above 96 kB
    sent = storescu(receiver.port, "-nh", "-v", "+sd", str(study))
    assert (sent.stdout + sent.stderr).count("Refused: OutOfResources") == SLICES, sent
    receiver.told("an object was refused (0xA700): disk full", times=SLICES)
    assert not [path for path in receiver.keep.glob("spool/**/*") if path.is_file() and path.name != ".lock"]

    resource.prlimit(receiver.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert storescu(receiver.port, "+sd", str(study)).returncode == 0
    receiver.told(" is there")
    assert len(receiver.cases()) == 1
    assert receiver.end() == 0
    assert receiver.document()["waiting"] == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """The receiver's folder on a disk of 600 kB; it is set up before the receiver and goes after it."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount a small file system; the test above limits the size of files instead")
    hospital = tmp_path / "hospital"
    hospital.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600k", "tmpfs", hospital], check=True)
    yield hospital
    subprocess.run(["umount", hospital], check=True)


def test_a_disk_that_fills_while_a_study_comes_keeps_what_fitted_and_takes_the_rest_later(
    small_disk: Path, start: Start, tmp_path: Path
) -> None:
    study = head(tmp_path / "study", seed=6, side=256)  # 131 kB an image
    receiver = start("--quiet", "0.5")
    sent = storescu(receiver.port, "-nh", "-v", "+sd", str(study))
    refused = (sent.stdout + sent.stderr).count("Refused: OutOfResources")
    kept = [path for path in receiver.keep.glob("spool/**/*") if path.suffix == ".dcm"]
    assert 0 < len(kept) < SLICES
    assert refused == SLICES - len(kept), sent
    receiver.told("an object was refused (0xA700): disk full", times=refused)
    assert receiver.cases() == []

    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    assert storescu(receiver.port, "+sd", str(study)).returncode == 0
    receiver.told(" is there")
    assert receiver.end() == 0
    assert [one["images"] for one in receiver.document()["cases"]] == [SLICES]


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[tuple[str, int]]:
    """URL of Orthanc's DICOMweb services, and its DICOM port."""
    tool = program("/usr/sbin/Orthanc")
    folder = tmp_path / "orthanc"
    folder.mkdir()
    http, dicom = free_port(), free_port()
    config = {
        "StorageDirectory": str(folder),
        "IndexDirectory": str(folder),
        "HttpPort": http,
        "DicomPort": dicom,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {"tester": "secret"},
        "DicomCheckCalledAet": False,
        "Plugins": ["/usr/share/orthanc/plugins/libOrthancDicomWeb.so"],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(config))
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen([tool, str(folder / "orthanc.json")], stdout=log, stderr=log)
    try:
        until = time.monotonic() + STARTS_S
        while "Orthanc has started" not in (folder / "log.txt").read_text(errors="replace"):
            assert process.poll() is None, (folder / "log.txt").read_text(errors="replace")
            assert time.monotonic() < until
            time.sleep(0.05)
        yield f"http://127.0.0.1:{http}/dicom-web", dicom
    finally:
        process.terminate()
        process.wait(STARTS_S)


def test_a_study_is_read_from_a_dicomweb_server(
    start: Start, orthanc: tuple[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, dicom_port = orthanc
    study = head(tmp_path / "study", seed=5)
    uid = str(pydicom.dcmread(next(study.iterdir())).StudyInstanceUID)
    assert storescu(dicom_port, "+sd", str(study)).returncode == 0

    monkeypatch.setenv("BATCHONE_DICOMWEB_PASSWORD", "secret")
    receiver = start("--from", url, "--study", uid, "--user", "tester", listens=False)
    assert receiver.process.wait(STARTS_S) == 0, receiver.log.read_text()
    (case,) = receiver.document()["cases"]
    assert (case["new"], case["images"]) == (True, SLICES)
    assert len(list((receiver.cases()[0] / "study").iterdir())) == SLICES
