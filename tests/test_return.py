"""The way back: a job's objects stand in the archive under the patient, study and frame of reference of the original scan."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import dicom_case as case
import httpx
import jsonschema
import numpy as np
import pydicom
import pytest
import typer
from pynetdicom import AE, evt
from typer.testing import CliRunner

from batchone.pipeline.commands.return_job import return_job
from batchone.pipeline.commands.status import case_status
from batchone.pipeline.errors import InputError, MachineError
from batchone.pipeline.events import append_event, chain_head
from batchone.pipeline.hospital import store_scu, stow
from batchone.pipeline.hospital.deliver import deliver
from batchone.pipeline.hospital.giveback import give_back
from batchone.pipeline.hospital.keep import Keep, Relink
from batchone.pipeline.hospital.original import find_original, restored
from batchone.pipeline.hospital.parcel import pack
from batchone.pipeline.hospital.store_scu import Peer, association, parse_peer
from batchone.pipeline.hospital.stow import PASSWORD_VARIABLE, Payload, WebServer, web_client
from batchone.pipeline.hospital.tls import client_tls
from batchone.pipeline.intake.inbox import accept_all
from batchone.pipeline.job.manifest import JobManifest, read_manifest
from batchone.pipeline.order import order_text

STARTS_S = 40.0  # on a busy machine
SEG, STL, PDF = (f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("66.4", "104.3", "104.1"))
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A job beside the identity that its own case folder read."""
    made = case.make_job(tmp_path_factory.mktemp("case"))
    identity = {name: getattr(made.identity, name) for name in made.identity.__slots__}
    (made.case / "intake").mkdir()
    (made.case / "intake" / "identity.json").write_text(json.dumps(identity))
    return made


@pytest.fixture(scope="module")
def manifest(made: Any) -> JobManifest:
    return read_manifest((made.job / "job.json").read_bytes())


@pytest.fixture(scope="module")
def payload(made: Any) -> Payload:
    """One object as it is sent."""
    name = "dicom/segmentation.dcm"
    data = (made.job / name).read_bytes()
    return Payload(name, SEG, str(pydicom.dcmread(io.BytesIO(data)).SOPInstanceUID), data)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No keep but the one that a test makes."""
    monkeypatch.setenv("BATCHONE_HOSPITAL", str(tmp_path / "keep"))
    monkeypatch.setenv(PASSWORD_VARIABLE, "secret")


@dataclass(frozen=True)
class Archive:
    """A running Orthanc."""

    http: int
    dicom: int

    @property
    def web(self) -> WebServer:
        return WebServer(f"http://127.0.0.1:{self.http}/dicom-web", "tester", "secret")

    def get(self, path: str) -> Any:
        return self.raw(path).json()

    def raw(self, path: str) -> httpx.Response:
        with httpx.Client(trust_env=False, auth=("tester", "secret")) as client:
            answer = client.get(f"http://127.0.0.1:{self.http}/{path}")
        assert answer.status_code == 200
        return answer

    def post(self, path: str, data: bytes) -> None:
        with httpx.Client(trust_env=False, auth=("tester", "secret")) as client:
            assert client.post(f"http://127.0.0.1:{self.http}/{path}", content=data).status_code == 200

    def files(self) -> dict[str, bytes]:
        """SOPInstanceUID -> file, of everything that is no CT."""
        found = {}
        for series in self.get("series?expand"):
            if series["MainDicomTags"]["Modality"] == "CT":
                continue
            for instance in series["Instances"]:
                tags = self.get(f"instances/{instance}")["MainDicomTags"]
                found[tags["SOPInstanceUID"]] = self.raw(f"instances/{instance}/file").content
        return found

    def clear(self) -> None:
        for series in self.get("series?expand"):
            if series["MainDicomTags"]["Modality"] != "CT":
                with httpx.Client(trust_env=False, auth=("tester", "secret")) as client:
                    client.delete(f"http://127.0.0.1:{self.http}/series/{series['ID']}")


@pytest.fixture(scope="module")
def running(made: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    """Orthanc that holds the original CT."""
    program = Path("/usr/sbin/Orthanc")
    if not program.exists():
        assert not os.environ.get("CI"), "Orthanc is not installed"
        pytest.skip("Orthanc is not installed")
    folder = tmp_path_factory.mktemp("orthanc")
    archive = Archive(free_port(), free_port())
    config = {
        "StorageDirectory": str(folder),
        "IndexDirectory": str(folder),
        "HttpPort": archive.http,
        "DicomPort": archive.dicom,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {"tester": "secret"},
        "DicomCheckCalledAet": False,
        "DicomAlwaysAllowStore": True,
        "UnknownSopClassAccepted": True,
        "Plugins": ["/usr/share/orthanc/plugins/libOrthancDicomWeb.so"],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (folder / "orthanc.json").write_text(json.dumps(config))
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen([program, folder / "orthanc.json"], stdout=log, stderr=log)
    try:
        until = time.monotonic() + STARTS_S
        while "Orthanc has started" not in (folder / "log.txt").read_text(errors="replace"):
            assert process.poll() is None, (folder / "log.txt").read_text(errors="replace")
            assert time.monotonic() < until
            time.sleep(0.05)
        for path in made.images:
            archive.post("instances", path.read_bytes())
        yield archive
    finally:
        process.terminate()
        process.wait(STARTS_S)


@pytest.fixture
def archive(running: Archive) -> Archive:
    """The archive with the CT alone."""
    running.clear()
    return running


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def expected(made: Any, manifest: JobManifest) -> dict[str, bytes]:
    """SOPInstanceUID -> what must have been sent."""
    assert manifest.dicom is not None
    original = find_original(made.job, manifest.case, None)
    sent = [restored(path.read_bytes(), original, manifest.dicom) for path in sorted((made.job / "dicom").iterdir())]
    return {str(pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True).SOPInstanceUID): data for data in sent}


def _refuse_unlike_the_scan(archive: Archive, made: Any) -> None:
    """One patient, one study, the CT's frame of reference, and the frames where the CT's images are."""
    ct = pydicom.dcmread(made.images[0])
    (patient,) = archive.get("patients?expand")
    (study,) = archive.get("studies?expand")
    assert patient["MainDicomTags"]["PatientID"] == case.PATIENT_ID
    assert study["MainDicomTags"]["StudyInstanceUID"] == ct.StudyInstanceUID
    objects = [pydicom.dcmread(io.BytesIO(data)) for data in archive.files().values()]
    assert sorted(str(item.SOPClassUID) for item in objects) == sorted([SEG, STL, STL, PDF])
    for item in objects:
        assert item.PatientName == case.NAME
        assert item.PatientBirthDate == case.BIRTH_DATE
        assert item.StudyDate == case.STUDY_DATE
        assert item.AccessionNumber == ct.AccessionNumber
        assert item.StudyInstanceUID == ct.StudyInstanceUID
        assert "PatientIdentityRemoved" not in item
        if item.SOPClassUID != PDF:
            assert item.FrameOfReferenceUID == ct.FrameOfReferenceUID
            assert item.ReferencedSeriesSequence[0].SeriesInstanceUID == ct.SeriesInstanceUID
    segmentation = next(item for item in objects if item.SOPClassUID == SEG)
    assert _corners_off_mm(segmentation, made) < 0.01


def _corners_off_mm(segmentation: Any, made: Any) -> float:
    """Largest distance between a frame's corner and the same corner of the image that it names."""
    images = {str(item.SOPInstanceUID): item for item in map(pydicom.dcmread, made.images)}
    shared = segmentation.SharedFunctionalGroupsSequence[0]
    measures, orientation = shared.PixelMeasuresSequence[0], shared.PlaneOrientationSequence[0]
    off = 0.0
    for frame in segmentation.PerFrameFunctionalGroupsSequence:
        source = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        image = images[source]
        assert (image.Rows, image.Columns) == (segmentation.Rows, segmentation.Columns)
        place = frame.PlanePositionSequence[0].ImagePositionPatient
        mine = _corners(place, orientation.ImageOrientationPatient, measures.PixelSpacing, image)
        theirs = _corners(image.ImagePositionPatient, image.ImageOrientationPatient, image.PixelSpacing, image)
        off = max(off, float(np.abs(mine - theirs).max()))
    return off


def _corners(position: Any, orientation: Any, spacing: Any, image: Any) -> Any:
    place, (row, column) = np.array(position, dtype=float), np.array(orientation, dtype=float).reshape(2, 3)
    down, across = float(spacing[0]) * (image.Rows - 1), float(spacing[1]) * (image.Columns - 1)
    return np.array([place + i * across * row + j * down * column for i in (0, 1) for j in (0, 1)])


def test_the_archive_shows_what_was_sent_by_web_under_the_original_study(
    made: Any, manifest: JobManifest, archive: Archive
) -> None:
    returned = give_back(made.job, [archive.web], signers=made.keys)
    assert returned.complete
    assert {one.way for one in returned.sent} == {"STOW-RS"}
    _refuse_unlike_the_scan(archive, made)
    assert archive.files() == expected(made, manifest), "the archive gives back the very bytes"
    again = give_back(made.job, [archive.web])
    assert again.complete, "sending twice does no harm"
    assert archive.files() == expected(made, manifest)


def test_the_archive_takes_the_same_by_c_store(made: Any, manifest: JobManifest, archive: Archive) -> None:
    returned = give_back(made.job, [Peer("ORTHANC", "127.0.0.1", archive.dicom)])
    assert returned.complete, returned
    assert {one.way for one in returned.sent} == {"C-STORE"}
    _refuse_unlike_the_scan(archive, made)
    for uid, data in expected(made, manifest).items():
        assert _content(archive.files()[uid]) == _content(data), "the file meta information alone may differ"


def _content(data: bytes) -> bytes:
    """A DICOM file after its file meta information."""
    length = int.from_bytes(data[140:144], "little")
    return data[144 + length :]


def events(path: Path) -> list[dict[str, str]]:
    """The events of a file whose chain is whole."""
    assert chain_head(path) is not None
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_was_sent_stands_in_the_events_of_the_case_or_of_the_keep(
    made: Any, manifest: JobManifest, payload: Payload, tmp_path: Path
) -> None:
    """Before and after, with the digest of the job, and nothing of the patient."""
    log, sums = made.case / "events.jsonl", hashlib.sha256((made.job / "SHA256SUMS").read_bytes()).hexdigest()
    log.unlink(missing_ok=True)
    append_event(log, who="reviewer", what="returned: gap too wide", when="2026-03-04T10:00:00+00:00")
    with archive_for([SEG, PDF]) as (peer, _):
        give_back(made.job, [peer])
    _, before, after = events(log)
    name = f"job {manifest.job} of case {manifest.case}"
    assert before["what"] == f"{name}: 4 objects are to be sent to PACS@127.0.0.1:{peer.port}"
    assert after["what"] == f"{name}: 2 of 4 objects were stored, by PACS@127.0.0.1:{peer.port}"
    assert {(one["who"], one["digest"]) for one in (before, after)} == {("batchone return", sums)}
    assert not [seed for seed in made.seeds if seed in log.read_text()]
    assert case_status(str(made.case), tmp_path).returned == "gap too wide", "the case is as the reviewer left it"

    identity = made.identity
    masks = [identity.study_instance_uid, identity.series_instance_uid, identity.frame_of_reference_uid, *identity.instance_uids]
    keep = Keep.open(tmp_path / "keep")
    keep.remember(Relink(manifest.case, identity, tuple((mask, mask) for mask in masks), (), -100))
    with pytest.raises(MachineError, match="cannot be reached"):
        give_back(made.job, [Peer("PACS", "127.0.0.1", free_port())])
    assert [one["what"].partition(": ")[2][:8] for one in events(tmp_path / "keep" / "events.jsonl")] == ["4 object", "0 of 4 o"]
    assert len(events(log)) == 3


def test_nothing_is_sent_that_the_events_cannot_tell(made: Any, tmp_path: Path) -> None:
    log = made.case / "events.jsonl"
    kept = log.rename(tmp_path / "events.jsonl") if log.exists() else None
    log.mkdir()
    try:
        with archive_for([SEG, STL, PDF]) as (peer, taken), pytest.raises(MachineError, match="the events"):
            give_back(made.job, [peer])
        assert taken == []
    finally:
        log.rmdir()
        if kept is not None:
            kept.rename(log)


def test_kinds_that_are_left_out_are_not_sent(made: Any, archive: Archive) -> None:
    returned = give_back(made.job, [archive.web], without={"model"})
    assert [one.file for one in returned.sent] == ["dicom/segmentation.dcm", "dicom/report.dcm"]
    assert len(archive.files()) == 2
    with pytest.raises(InputError, match="nothing is left"):
        give_back(made.job, [archive.web], without={"model", "segmentation", "report"})


def test_the_command_prints_one_document_of_its_schema(made: Any, archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    app = typer.Typer()
    app.command()(return_job)
    done = CliRunner().invoke(app, [str(made.job), "--to", archive.web.url, "--user", "tester", "--without", "report", "--json"])
    assert done.exit_code == 0, done.output
    tree = json.loads(done.stdout)
    schema = json.loads(resources.files("batchone.pipeline").joinpath("schemas/return.schema.json").read_text())
    jsonschema.validate(tree, schema)
    assert tree["complete"] is True
    assert len(tree["objects"]) == 3
    for seed in made.seeds:
        assert seed not in done.output, "no identity is shown"


def test_wrong_credentials_and_a_wrong_address_say_so(made: Any, archive: Archive) -> None:
    wrong = WebServer(archive.web.url, "tester", "other")
    with pytest.raises(MachineError, match="refuses this user") as caught:
        give_back(made.job, [wrong])
    assert "--user" in caught.value.hint
    with pytest.raises(MachineError, match="takes no objects there"):
        give_back(made.job, [WebServer(f"http://127.0.0.1:{archive.http}/elsewhere", "tester", "secret")])
    nobody = free_port()
    for target in (WebServer(f"http://127.0.0.1:{nobody}/dicom-web"), Peer("PACS", "127.0.0.1", nobody)):
        with pytest.raises(MachineError, match="cannot be reached"):
            give_back(made.job, [target])
    assert archive.files() == {}


def test_what_cannot_be_reached_first_goes_to_the_next(made: Any, archive: Archive) -> None:
    silent = WebServer(f"http://127.0.0.1:{free_port()}/dicom-web")
    returned = give_back(made.job, [silent, Peer("ORTHANC", "127.0.0.1", archive.dicom)])
    assert returned.complete
    assert any("cannot be reached" in note for note in returned.notes)
    assert len(archive.files()) == 4


@contextmanager
def web_server(answer: Callable[[bytes], tuple[int, str, str]]) -> Iterator[WebServer]:
    """A server that gives made-up answers to what is posted."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status, kind, text = answer(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(text.encode())))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_given: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield WebServer(f"http://127.0.0.1:{server.server_address[1]}")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _said(tag: str, reason_tag: str, reason: int) -> str:
    return json.dumps({tag: {"vr": "SQ", "Value": [{reason_tag: {"vr": "US", "Value": [reason]}}]}})


def test_a_model_that_the_web_refuses_goes_by_c_store(made: Any, archive: Archive) -> None:
    def answer(body: bytes) -> tuple[int, str, str]:
        if b"model/stl" in body:
            return 409, "application/dicom+json", _said("00081198", "00081197", 0x0122)
        return 200, "application/dicom+json", _said("00081199", "00081155", 0)

    with web_server(answer) as server:
        alone = give_back(made.job, [server])
        both = give_back(made.job, [server, Peer("ORTHANC", "127.0.0.1", archive.dicom)])
    assert [one.stored for one in alone.sent] == [True, False, False, True]
    assert "kind of object" in alone.sent[1].note
    assert both.complete
    assert [one.way for one in both.sent] == ["STOW-RS", "C-STORE", "C-STORE", "STOW-RS"]
    assert len(archive.files()) == 2


FAILED_XML = '<NativeDicomModel><DicomAttribute tag="%s" vr="SQ"><Item number="1">%s</Item></DicomAttribute></NativeDicomModel>'
REASON_XML = '<DicomAttribute tag="00081197" vr="US"><Value number="1">42752</Value></DicomAttribute>'


@pytest.mark.parametrize(
    ("status", "text", "stored", "told"),
    [
        (200, _said("00081199", "00081196", 0xB000), True, "0xB000"),
        (200, _said("00081198", "00081197", 0xA700), False, "out of resources"),
        (202, _said("00081198", "00081197", 0xC123), False, "cannot understand"),
        (409, "", False, "refuses"),
        (400, "no", False, "HTTP 400"),
        (200, "<html>welcome</html>", False, "neither"),
        (200, "{}", False, "neither"),
        (200, "", True, ""),
        (409, FAILED_XML % ("00081198", REASON_XML), False, "out of resources"),
        (200, FAILED_XML % ("00081199", ""), True, ""),
    ],
)
def test_the_answer_for_each_object_is_read(payload: Payload, status: int, text: str, stored: bool, told: str) -> None:
    with web_server(lambda body: (status, "application/dicom+json", text)) as server, web_client(server) as client:
        answer = stow.store(client, payload)
    assert answer.stored is stored
    assert told in answer.note


@pytest.mark.parametrize(("status", "told"), [(403, "refuses this user"), (503, "failed"), (404, "takes no objects")])
def test_a_server_that_refuses_as_a_whole_is_an_error(payload: Payload, status: int, told: str) -> None:
    answering = web_server(lambda body: (status, "text/plain", ""))
    with answering as server, web_client(server) as client, pytest.raises(MachineError, match=told):
        stow.store(client, payload)


@contextmanager
def archive_for(
    classes: list[str], *, status: int = 0, title: str | None = None, tls: ssl.SSLContext | None = None
) -> Iterator[tuple[Peer, list[Any]]]:
    """A small archive that takes these SOP classes."""
    taken: list[Any] = []

    def keep(event: Any) -> int:
        taken.append(event.dataset)
        return status

    entity = AE(ae_title="PACS")
    if title is not None:
        entity.require_called_aet = True
        entity.require_calling_aet = [title]
    for sop_class in classes:
        entity.add_supported_context(sop_class, EXPLICIT_LITTLE)
    server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, keep)], ssl_context=tls)
    try:
        yield Peer("PACS", "127.0.0.1", server.server_address[1]), taken
    finally:
        server.shutdown()


def test_an_archive_that_does_not_know_models_takes_the_rest(made: Any) -> None:
    with archive_for([SEG, PDF]) as (peer, taken):
        returned = give_back(made.job, [peer])
    assert [one.stored for one in returned.sent] == [True, False, False, True]
    assert "kind of object" in returned.sent[1].note
    assert len(taken) == 2


@pytest.mark.parametrize(
    ("status", "stored", "told"), [(0xB000, True, "0xB000"), (0xA700, False, "out of resources"), (0xC001, False, "understand")]
)
def test_the_status_of_each_object_is_read(payload: Payload, status: int, stored: bool, told: str) -> None:
    with archive_for([SEG, STL, PDF], status=status) as (peer, _), association(peer, (SEG, STL)) as made:
        answer = store_scu.store(made, payload)
    assert answer.stored is stored
    assert told in answer.note


def test_an_archive_that_rejects_our_title_says_so() -> None:
    refused = pytest.raises(MachineError, match="rejects the association")
    with archive_for([SEG], title="SOMEBODY") as (peer, _), refused as caught, association(peer, (SEG,)):
        pass
    assert "--aet" in caught.value.hint


def test_an_archive_that_takes_none_of_the_kinds_says_so() -> None:
    refused = pytest.raises(MachineError, match="none of the kinds")
    with archive_for(["1.2.840.10008.5.1.4.1.1.2"]) as (peer, _), refused, association(peer, (SEG, STL)):
        pass


def test_an_archive_is_spoken_to_over_tls_when_its_certificate_is_known(payload: Payload, tmp_path: Path) -> None:
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=archive"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate, key)
    with archive_for([SEG], tls=server) as (peer, taken):
        with association(replace(peer, tls=client_tls(None, None, certificate)), (SEG,)) as made:
            assert store_scu.store(made, payload).stored
        assert len(taken) == 1
    with socket.create_server(("127.0.0.1", 0)) as listening:
        shaking = threading.Thread(target=_shake_hands, args=(listening, server))
        shaking.start()
        stranger = Peer("PACS", "127.0.0.1", listening.getsockname()[1], tls=client_tls(None, None, None))
        with pytest.raises(MachineError, match=r"TLS: self.signed certificate"), association(stranger, (SEG,)):
            pass
        shaking.join()


def _shake_hands(listening: socket.socket, context: ssl.SSLContext) -> None:
    """Try a handshake with one caller."""
    caller, _ = listening.accept()
    with caller:
        try:
            context.wrap_socket(caller, server_side=True).close()
        except OSError:
            return


def test_the_keep_leads_back_what_came_in_under_pseudonyms(made: Any, manifest: JobManifest, tmp_path: Path) -> None:
    """The study that reached the site bore pseudonyms itself; the hospital's keep knows what stood for what."""
    identity = made.identity
    masks = [identity.study_instance_uid, identity.series_instance_uid, identity.frame_of_reference_uid, *identity.instance_uids]
    pairs = tuple((mask, f"1.2.3.{number}") for number, mask in enumerate(masks))
    attributes = (("PatientName", "TEST^ÄLPHA"), ("PatientID", "TEST-0009"), ("StudyDate", "20260101"), ("StudyTime", "101500"))
    keep = Keep.open(tmp_path / "keep")
    keep.remember(Relink(manifest.case, identity, pairs, attributes, -100))
    with archive_for([SEG, STL, PDF]) as (peer, taken):
        assert give_back(made.job, [peer]).complete
    for item in taken:
        assert str(item.PatientName) == "TEST^ÄLPHA"
        assert (item.PatientID, item.StudyDate, item.StudyTime) == ("TEST-0009", "20260101", "101500")
        assert item.StudyInstanceUID == "1.2.3.0"
        assert item.PatientBirthDate == "", "only what the keep knows is put back"
        if item.SOPClassUID != PDF:
            assert item.FrameOfReferenceUID == "1.2.3.2"
            (series,) = item.ReferencedSeriesSequence
            assert series.SeriesInstanceUID == "1.2.3.1"
            named = {one.ReferencedSOPInstanceUID for one in series.ReferencedInstanceSequence}
            assert named == {uid for _, uid in pairs[3:]}


def test_what_was_submitted_comes_back_under_the_patient_that_it_left(made: Any, archive: Archive, tmp_path: Path) -> None:
    """Hospital to site to hospital: parcel, case, job, and back; the site never sees a name."""
    (tmp_path / "order.toml").write_text(order_text(case.case_order("demo-0002")))
    keep = Keep.open(tmp_path / "keep")
    parcel = pack(made.study, keep, order=tmp_path / "order.toml", case="demo-0002")
    deliver(parcel, tmp_path / "site")
    (accepted,) = accept_all(tmp_path / "site")
    sent = case.job_of(accepted.folder / "study", made.images, made.seeds, site=tmp_path / "site", case="demo-0002")
    assert sent.identity.patient_name != case.NAME
    assert sent.scan.record.images.study_uid != made.scan.record.images.study_uid
    assert give_back(sent.job, [archive.web], signers=sent.keys).complete
    _refuse_unlike_the_scan(archive, made)


def test_a_case_that_is_not_known_or_of_another_study_is_refused(made: Any, manifest: JobManifest, tmp_path: Path) -> None:
    target = [Peer("PACS", "127.0.0.1", 104)]
    with pytest.raises(InputError, match="no keep"):
        give_back(made.job, target, keep=tmp_path / "nowhere")
    keep = Keep.open(tmp_path / "keep")
    keep.remember(Relink(manifest.case, made.identity, (("1.2", "1.3"),), (), 0))
    with pytest.raises(InputError, match="another study"):
        give_back(made.job, target)
    away = made.case / "intake" / "identity.json"
    hidden = away.rename(tmp_path / "identity.json")
    try:
        (tmp_path / "keep" / "relink" / f"{manifest.case}.sealed").unlink()
        with pytest.raises(InputError, match="nothing leads case"):
            give_back(made.job, target)
    finally:
        hidden.rename(away)


def test_a_job_that_was_changed_is_not_returned(made: Any, archive: Archive, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "job"
    shutil.copytree(made.job, copy)
    path = copy / "dicom" / "model.dcm"
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(MachineError, match="does not verify"):
        give_back(copy, [archive.web])
    assert archive.files() == {}


@pytest.mark.parametrize("text", ["PACS", "PACS@host", "PACS@host:0", "PACS@host:99999", "x" * 17 + "@host:104", "@host:104"])
def test_a_target_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="neither"):
        parse_peer(text)


def test_a_target_is_title_host_and_port() -> None:
    assert parse_peer("PACS@pacs.example:104") == ("PACS", "pacs.example", 104)
    assert parse_peer("PACS@[::1]:11112") == ("PACS", "::1", 11112)
    with pytest.raises(InputError, match="password"), web_client(WebServer("http://tester:secret@127.0.0.1/dicom-web")):
        pass
