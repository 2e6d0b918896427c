"""The way in, piece by piece: the spool, the listener's bounds, the gateway's judgement, the DICOMweb reader."""

from __future__ import annotations

import importlib.resources
import json
import logging
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pynetdicom import AE, evt
from pynetdicom.association import Association
from typer.testing import CliRunner, Result

from batchone.pipeline.errors import InputError, MachineError, OrderError
from batchone.pipeline.hospital.association import MAX_PDU_BYTES
from batchone.pipeline.hospital.deliver import deliver
from batchone.pipeline.hospital.dicomweb_in import DicomWeb, fetch_study
from batchone.pipeline.hospital.keep import Keep
from batchone.pipeline.hospital.listener import Listener, Listening, Peer, check_title, parse_peers
from batchone.pipeline.hospital.multipart import parts
from batchone.pipeline.hospital.parcel import pack
from batchone.pipeline.hospital.receive import Gateway, OrderFile, open_spool, take_in, waiting_studies
from batchone.pipeline.hospital.spool import Announced, Bounds, Spool
from batchone.samples.dicom import write_series

SLICES, SIDE = 10, 32
CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"
ORDER = """
case = "spool-0001"
device = "anatomical-model"
side = "midline"
process = "pa12-sls"
machine = "sim-01"
due = 2026-11-24T08:00:00Z
"""


def head(folder: Path, *, seed: int = 1) -> list[Path]:
    """The images of a small sound CT study, by position."""
    hu = np.full((SLICES, SIDE, SIDE), -1000, dtype=np.int16)
    hu[:, 8:-8, 8:-8] = 40
    hu[:, 10:16, 10:16] = 700 + seed
    return write_series(hu, np.diag([0.5, 0.5, 1.0, 1.0]), folder, seed=seed)


def keep_image(spool: Spool, path: Path, source: str = "one", announced: Announced | None = None) -> str:
    incoming = spool.incoming()
    try:
        incoming.write(path.read_bytes())
        return spool.store(incoming, source, announced or Announced())
    finally:
        incoming.discard()


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    opened = Spool(tmp_path / "spool", b"key")
    yield opened
    opened.close()


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_nothing_in_the_spool_is_named_by_what_was_sent(spool: Spool, tmp_path: Path) -> None:
    path = head(tmp_path / "study")[0]
    uid = keep_image(spool, path)
    image = pydicom.dcmread(path)
    assert uid == image.SOPInstanceUID
    names = files(spool.folder)
    assert len([name for name in names if re.fullmatch(r"studies/[0-9a-f]{32}/objects/[0-9a-f]{32}\.dcm", name)]) == 1
    assert not [name for name in names if "." in name and str(image.StudyInstanceUID) in name]
    (tmp_path / "hostile.dcm").write_bytes(path.read_bytes().replace(uid.encode(), b"../../../../tmp/x".ljust(len(uid))))
    with pytest.raises(InputError, match="no valid study or instance identifier"):
        keep_image(spool, tmp_path / "hostile.dcm")
    assert files(spool.folder) == names


def test_the_preamble_that_a_sender_filled_is_cleared(spool: Spool, tmp_path: Path) -> None:
    path = head(tmp_path / "study")[0]
    path.write_bytes(b"\x7fELF" + path.read_bytes()[4:])
    keep_image(spool, path)
    kept = next(spool.folder.glob("studies/*/objects/*.dcm")).read_bytes()
    assert kept[:128] == bytes(128)
    assert kept[128:] == path.read_bytes()[128:]


@pytest.mark.parametrize("content", [b"", b"no DICOM at all, but text" * 20, bytes(128) + b"DICM", bytes(200)])
def test_what_is_no_image_is_refused_and_leaves_nothing(spool: Spool, content: bytes) -> None:
    before = files(spool.folder)
    incoming = spool.incoming()
    incoming.write(content)
    with pytest.raises(InputError, match="object"):
        spool.store(incoming, "one")
    assert files(spool.folder) == before


def test_another_object_than_the_announced_one_is_refused(spool: Spool, tmp_path: Path) -> None:
    first, second = head(tmp_path / "study")[:2]
    own = str(pydicom.dcmread(first).SOPInstanceUID)
    with pytest.raises(InputError, match="not the one that was announced"):
        keep_image(spool, second, announced=Announced(sop_instance=own))
    with pytest.raises(InputError, match="not the one that was announced"):
        keep_image(spool, first, announced=Announced(study="1.2.3"))
    keep_image(spool, first, announced=Announced(sop_class=CT, sop_instance=own))
    image = pydicom.dcmread(second)
    image.SOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    image.save_as(tmp_path / "mr.dcm")
    with pytest.raises(InputError, match="no CT image"):
        keep_image(spool, tmp_path / "mr.dcm")


def test_each_bound_holds_just_inside_and_not_just_outside(tmp_path: Path) -> None:
    one, two, three = head(tmp_path / "study")[:3]
    size = one.stat().st_size
    for number, (bounds, inside, outside, reason) in enumerate(
        [
            (Bounds(object_bytes=size), one, None, ""),
            (Bounds(object_bytes=size - 1), None, one, "larger than"),
            (Bounds(study_objects=2), two, three, "a study has 3 images, at most 2"),
            (Bounds(study_bytes=size + two.stat().st_size), two, three, "a study has 0 MB, at most 0 MB"),
            (Bounds(studies=1), two, head(tmp_path / "other", seed=2)[0], "the spool holds 1 studies, at most 1"),
        ]
    ):
        spool = Spool(tmp_path / f"spool{number}", b"key", bounds)
        if outside is not one:
            keep_image(spool, one)
        if inside is not None:
            keep_image(spool, inside)
        if outside is not None:
            with pytest.raises((InputError, MachineError), match=reason):
                keep_image(spool, outside)
            assert not files(spool.folder / "incoming")
        spool.close()


def test_a_study_is_due_when_every_source_has_ended_and_it_is_quiet(spool: Spool, tmp_path: Path) -> None:
    paths = head(tmp_path / "study")
    keep_image(spool, paths[0], "one")
    keep_image(spool, paths[0], "two")
    spool.end("one", whole=True)
    assert spool.due(0.0) == ()
    spool.end("two", whole=True)
    assert spool.due(60.0) == ()
    (name,) = spool.due(0.0)
    assert not spool.is_cut(name)
    spool.wait(name, "for a reason")
    assert spool.due(0.0) == ()
    assert [(one.images, one.reason) for one in spool.waiting()] == [(1, "for a reason")]
    keep_image(spool, paths[1], "three")
    spool.end("three", whole=True)
    assert spool.due(0.0) == (name,)


def test_a_cut_study_stays_cut_over_a_restart_until_a_source_ends_well(tmp_path: Path) -> None:
    paths = head(tmp_path / "study")
    spool = Spool(tmp_path / "spool", b"key")
    with pytest.raises(MachineError, match="another receiver works on this spool"):
        Spool(tmp_path / "spool", b"key")
    keep_image(spool, paths[0], "one")
    spool.end("one", whole=False)
    (name,) = spool.due(0.0)
    assert spool.is_cut(name)
    spool.close()
    spool = Spool(tmp_path / "spool", b"key")
    assert spool.due(0.0) == (name,)
    assert spool.is_cut(name)
    keep_image(spool, paths[1], "two")
    spool.end("two", whole=True)
    assert not spool.is_cut(name)
    spool.close()


def test_a_process_that_died_while_packing_loses_nothing(tmp_path: Path) -> None:
    paths = head(tmp_path / "study")
    spool = Spool(tmp_path / "spool", b"key")
    for path in paths[:4]:
        keep_image(spool, path)
    spool.end("one", whole=True)
    (name,) = spool.due(0.0)
    spool.take(name)
    keep_image(spool, paths[4], "late")
    spool.incoming(b"half")
    spool.close()  # as a kill would leave it
    spool = Spool(tmp_path / "spool", b"key")
    assert [one.images for one in spool.waiting()] == [5]
    assert not files(tmp_path / "spool" / "incoming")
    spool.end("late", whole=True)
    taken = spool.take(name)
    assert len(list(taken.iterdir())) == 5
    spool.drop(name)
    assert spool.waiting() == ()
    assert not list((tmp_path / "spool" / "studies").iterdir())
    spool.close()


@contextmanager
def listening(spool: Spool, **more: Any) -> Iterator[int]:
    with Listener(Listening((Peer("SCANNER"),), port=0, **more), spool) as listener:
        yield listener.port


_CONNECTIONS: list[socket.socket] = []


@pytest.fixture(autouse=True)
def _hang_up() -> Iterator[None]:
    """Close what pynetdicom leaves open when the other side closes first."""
    yield
    while _CONNECTIONS:
        _CONNECTIONS.pop().close()


def associate(port: int, *, established: bool = True, answers: list[int] | None = None) -> Association:
    """An association with our listener; the status of each answer goes into ``answers``."""
    entity = AE("SCANNER")
    entity.add_requested_context(CT, EXPLICIT)
    noting = [(evt.EVT_DIMSE_RECV, lambda event: answers.append(event.message.command_set.Status))]
    association = entity.associate("127.0.0.1", port, ae_title="BATCHONE", evt_handlers=noting if answers is not None else [])
    if association.dul.socket is not None and association.dul.socket.socket is not None:
        _CONNECTIONS.append(association.dul.socket.socket)
    assert association.is_established == established
    return association


def until(condition: Callable[[], object], *, timeout_s: float = 20.0) -> None:
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.02)


def closed(connection: socket.socket) -> bool:
    """Whether the other side closes the connection, after whatever it says before."""
    connection.settimeout(20.0)
    try:
        while connection.recv(4096):
            pass
    except ConnectionResetError:
        pass
    return True


def test_a_pdu_longer_than_negotiated_ends_the_connection_at_once_and_no_other(
    spool: Spool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = head(tmp_path / "study")[0]
    with listening(spool) as port, socket.create_connection(("127.0.0.1", port)) as silent:
        with socket.create_connection(("127.0.0.1", port)) as hostile:
            hostile.sendall(struct.pack(">BBL", 1, 0, 0xFFFFFFF0) + bytes(70_000))
            assert closed(hostile)
        association = associate(port)  # while one says nothing at all
        association.dul.socket.send(struct.pack(">BBL", 4, 0, MAX_PDU_BYTES + 1) + bytes(64))  # type: ignore[union-attr]
        until(lambda: association.is_aborted)
        association = associate(port)
        assert association.send_c_store(path).Status == 0x0000
        association.release()
        until(lambda: spool.due(0.0))
        silent.close()
    assert f"sends a PDU of {0xFFFFFFF0} bytes, at most {MAX_PDU_BYTES}" in caplog.text
    assert f"sends a PDU of {MAX_PDU_BYTES + 1} bytes" in caplog.text


def test_a_connection_that_stalls_in_a_pdu_is_ended(spool: Spool, caplog: pytest.LogCaptureFixture) -> None:
    with listening(spool, timeout_s=0.5) as port, socket.create_connection(("127.0.0.1", port)) as slow:
        slow.sendall(struct.pack(">BBL", 1, 0, 200) + bytes(20))
        assert closed(slow)
    assert "stopped in the middle of a PDU for 0.5 s" in caplog.text


def test_an_association_request_that_cannot_be_read_ends_its_connection_alone(
    spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    with listening(spool) as port:
        sent: list[bytes] = []
        entity = AE("SCANNER")
        entity.add_requested_context(CT, EXPLICIT)
        noting = [(evt.EVT_DATA_SENT, lambda event: sent.append(bytes(event.data)))]
        entity.associate("127.0.0.1", port, ae_title="BATCHONE", evt_handlers=noting).release()
        at = sent[0].index(b"\x20\0", 74)  # the presentation context item; its identifier must be odd (PS3.8, 9.3.2.2)
        hostile = sent[0][: at + 4] + b"\x02" + sent[0][at + 5 :]
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(hostile)
            assert closed(connection)
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert closed(connection)
        assert associate(port).is_established
        until(lambda: threading.active_count() < 12)  # none of them is waited for any more
    assert "a connection could not go on (ValueError): ended" in caplog.text


def p_data(context: int, control: int, value: bytes) -> bytes:
    item = struct.pack(">LBB", len(value) + 2, context, control) + value
    return struct.pack(">BBL", 4, 0, len(item)) + item


def command(**changes: bytes) -> bytes:
    """A C-STORE request's command set."""
    elements = {
        "0002": CT.encode() + b"\0",
        "0100": b"\x01\0",
        "0110": b"\x07\0",
        "0700": b"\x02\0",
        "0800": b"\x01\0",
        "1000": b"1.2.3\0",
    }
    elements |= {name.removeprefix("_"): value for name, value in changes.items()}
    return b"".join(struct.pack("<HHL", 0, int(name, 16), len(value)) + value for name, value in sorted(elements.items()))


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (p_data(1, 3, command(_0002=b"1.2.840.10008.5.1.4.1.1.4\0")), "what was not negotiated"),
        (p_data(9, 3, command()), "what was not negotiated"),
        (p_data(1, 3, command(_0100=b"\x20\0")), "other than C-ECHO or C-STORE"),
        (p_data(1, 3, command(_0800=b"\x01\x01")), "other than C-ECHO or C-STORE"),
        (p_data(1, 3, command(_1000=b"../../x\0")), "without a valid identifier"),
        (p_data(1, 3, command(_0110=b"")), "without a number that it must have"),
        (p_data(1, 3, command()[:-3]), "a command that cannot be read"),
        (p_data(1, 1, bytes(5000)), "more than 4096 bytes"),
        (p_data(1, 0, b"data"), "data came without a request"),
        (p_data(1, 3, command()) + p_data(1, 3, command()), "before the data of the one before"),
        (p_data(1, 3, command()) + p_data(1, 0, bytes(3000)), "larger than"),
        (b"".join(p_data(1, 3, command()) + p_data(1, 2, b"x") for _ in range(40)), "without waiting for answers"),
    ],
)
def test_what_no_sender_may_say_ends_the_association_and_leaves_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, sent: bytes, reason: str
) -> None:
    spool = Spool(tmp_path / "spool", b"key", Bounds(object_bytes=3000))
    with listening(spool) as port:
        association = associate(port)
        association.dul.socket.send(sent)  # type: ignore[union-attr]
        until(lambda: association.is_aborted)
        until(lambda: reason in caplog.text)
        until(lambda: not files(spool.folder / "incoming"))
        assert associate(port).is_established
    assert files(spool.folder) == [".lock"]
    spool.close()


def test_an_object_that_does_not_match_its_request_is_answered_so(spool: Spool, tmp_path: Path) -> None:
    path = head(tmp_path / "study")[0]
    with listening(spool) as port:
        answers: list[int] = []
        association = associate(port, answers=answers)
        content = path.read_bytes()
        data = content[144 + struct.unpack_from("<L", content, 140)[0] :]  # after the file meta information
        association.dul.socket.send(p_data(1, 3, command()) + p_data(1, 2, data))  # type: ignore[union-attr]
        until(lambda: answers == [0xA900])
        association.abort()
    assert spool.waiting() == ()


def test_an_index_file_sent_among_the_images_is_refused_and_does_not_hold_the_study_up(spool: Spool, tmp_path: Path) -> None:
    with listening(spool) as port:
        answers: list[int] = []
        association = associate(port, answers=answers)
        index = b"\x08\0\x05\0CS\x0a\0ISO_IR 100"
        association.dul.socket.send(p_data(1, 3, command()) + p_data(1, 2, index))  # type: ignore[union-attr]
        until(lambda: answers == [0xC000])
        assert association.send_c_store(head(tmp_path / "study")[0]).Status == 0x0000
        association.release()
        until(lambda: spool.due(0.0))
    assert not spool.is_cut(spool.due(0.0)[0])
    assert not files(spool.folder / "incoming")


def test_only_so_many_associations_at_once_and_only_from_their_host(spool: Spool, caplog: pytest.LogCaptureFixture) -> None:
    with listening(spool, associations=1) as port:
        first = associate(port)
        second = associate(port, established=False)
        assert second.is_rejected
        first.release()
        assert "association refused: 1 are open, at most 1" in caplog.text
    elsewhere = Listening((Peer("SCANNER", frozenset({"192.0.2.7"})),), port=0)
    with Listener(elsewhere, spool) as listener:
        assert associate(listener.port, established=False).is_rejected
    assert "is not on the list from there" in caplog.text


def test_senders_are_named_by_title_and_host() -> None:
    assert parse_peers(["PACS", "CT 1@127.0.0.1"]) == (Peer("PACS"), Peer("CT 1", frozenset({"127.0.0.1"})))
    with pytest.raises(InputError, match="0 senders are allowed"):
        parse_peers([])
    with pytest.raises(InputError, match="host of --allow PACS@ is not known"):
        parse_peers(["PACS@"])
    assert check_title(" ABCDEFGHIJKLMNOP ") == "ABCDEFGHIJKLMNOP"
    for wrong in ("", "ABCDEFGHIJKLMNOPQ", "A\\B", "Ä", "A\nB"):
        with pytest.raises(InputError, match="AE title is"):
            check_title(wrong)


@contextmanager
def gateway(tmp_path: Path, **more: Any) -> Iterator[Gateway]:
    keep, site = Keep.open(tmp_path / "keep"), tmp_path / "site"
    spool = open_spool(keep, site)
    yield Gateway(keep, site, spool, **more)
    spool.close()


def test_a_study_that_was_cut_off_waits_for_its_rest_and_is_never_packed_half(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    paths = head(tmp_path / "study")
    with gateway(tmp_path) as gate, listening(gate.spool) as port:
        association = associate(port)
        for path in paths[:6]:  # six neighbouring slices: sound by themselves
            association.send_c_store(path)
        association.abort()
        until(lambda: gate.spool.due(0.0))
        gate.look(0.0)
        assert gate.received == []
        (waiting,) = waiting_studies(tmp_path / "keep", tmp_path / "site")
        assert (waiting.images, waiting.reason.startswith("incomplete: the sender was cut off")) == (6, True)
        assert "association cut off: 6 objects kept, 0 not" in caplog.text
        association = associate(port)
        for path in paths[6:]:
            association.send_c_store(path)
        association.release()
        until(lambda: gate.spool.due(0.0))
        gate.look(0.0)
    (received,) = gate.received
    assert (received.images, received.new) == (SLICES, True)
    assert waiting_studies(tmp_path / "keep", tmp_path / "site") == ()


def test_a_study_with_a_missing_slice_waits_for_it(tmp_path: Path) -> None:
    paths = head(tmp_path / "study")
    with gateway(tmp_path) as gate:
        for path in paths[:4] + paths[5:]:
            keep_image(gate.spool, path)
        gate.spool.end("one", whole=True)
        gate.look(0.0)
        assert gate.received == []
        (waiting,) = gate.spool.waiting()
        assert waiting.reason.startswith("incomplete: no series makes a volume: ")
        keep_image(gate.spool, paths[4], "two")
        gate.spool.end("two", whole=True)
        gate.look(0.0)
    assert [one.images for one in gate.received] == [SLICES]


def test_images_that_come_after_their_case_wait_and_say_so(tmp_path: Path) -> None:
    paths = head(tmp_path / "study")
    with gateway(tmp_path) as gate:
        for part, source in ((paths[:6], "one"), (paths[6:], "two")):
            for path in part:
                keep_image(gate.spool, path, source)
            gate.spool.end(source, whole=True)
            gate.look(0.0)
        assert [one.images for one in gate.received] == [6]
        (waiting,) = gate.spool.waiting()
        assert waiting.images == 4
        assert "another order or study" in waiting.reason


def test_a_receiver_that_dies_between_case_and_spool_makes_no_second_case(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: object) -> None:
        raise SystemExit

    with gateway(tmp_path) as gate, monkeypatch.context() as patched:
        for path in head(tmp_path / "study"):
            keep_image(gate.spool, path)
        gate.spool.end("one", whole=True)
        patched.setattr(Spool, "drop", dies)
        with pytest.raises(SystemExit):
            gate.look(0.0)
    with gateway(tmp_path) as gate:
        gate.look(0.0)
        assert [(one.new, one.images) for one in gate.received] == [(False, SLICES)]
        assert gate.spool.waiting() == ()
    assert len([case for case in (tmp_path / "site" / "cases").iterdir() if not case.name.startswith(".")]) == 1


def test_which_study_an_order_is_for_is_never_guessed(tmp_path: Path) -> None:
    (tmp_path / "order.toml").write_text(ORDER)
    order = OrderFile(tmp_path / "order.toml", "spool-0001")
    studies = [head(tmp_path / name, seed=seed) for seed, name in ((1, "a"), (2, "b"))]
    with gateway(tmp_path, order=order) as gate:
        for source, paths in enumerate(studies):
            for path in paths:
                keep_image(gate.spool, path, str(source))
            gate.spool.end(str(source), whole=True)
        with pytest.raises(OrderError, match="2 studies are in the spool, the order is for 1"):
            gate.look(0.0)
        assert [one.images for one in gate.spool.waiting()] == [SLICES, SLICES]
    with gateway(tmp_path, order=order, study_uid=str(pydicom.dcmread(studies[1][0]).StudyInstanceUID)) as gate:
        gate.look(0.0)
        assert gate.done
        assert len(gate.spool.waiting()) == 1
    assert [(one.case, one.images) for one in gate.received] == [("spool-0001", SLICES)]


def test_a_fault_of_the_disk_is_tried_again_and_one_of_ours_keeps_no_other_study_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from batchone.pipeline.hospital import receive

    faults: list[Exception] = [MachineError("disk full"), KeyError("TEST^ALPHA")]

    def failing(*args: Any, **more: Any) -> Any:
        if faults:
            raise faults.pop(0)
        return real(*args, **more)

    real = receive.pack
    monkeypatch.setattr(receive, "pack", failing)
    monkeypatch.setattr(receive, "RETRY_S", 0.0)
    with gateway(tmp_path) as gate:
        for path in head(tmp_path / "study"):
            keep_image(gate.spool, path)
        gate.spool.end("one", whole=True)
        gate.look(0.0)
        assert gate.spool.waiting()[0].reason == "disk full"
        gate.look(0.0)
        assert re.fullmatch(r"interrupted by KeyError at test_spool\.py:\d+", gate.spool.waiting()[0].reason)
        assert gate.received == []
        gate.spool.retry()
        gate.look(0.0)
        assert len(gate.received) == 1
        # the parcel again, as a delivery by other means would bring it
        (parcel,) = (tmp_path / "keep" / "outbox").glob("*.batchone")
        (tmp_path / "site" / "inbox" / parcel.name).write_bytes(parcel.read_bytes())
        (tmp_path / "site" / "inbox" / f"{'0' * 64}.batchone").write_bytes(b"PK")
        received, refused = take_in(tmp_path / "site")
        assert [(one.new, one.images) for one in received] == [(False, SLICES)]
        assert [digest for digest, _ in refused] == ["0" * 64]


class Pacs:
    """A DICOMweb server that can be told to misbehave."""

    def __init__(self, paths: list[Path]) -> None:
        images = [pydicom.dcmread(path) for path in paths]
        self.study, self.series = str(images[0].StudyInstanceUID), str(images[0].SeriesInstanceUID)
        self.images = {str(image.SOPInstanceUID): path.read_bytes() for image, path in zip(images, paths, strict=True)}
        self.listed = list(self.images)
        self.cut_after: int | None = None
        self.status = 200
        self.asked: list[str] = []

    def answer(self, path: str) -> tuple[int, str, bytes]:
        self.asked.append(path.partition("?")[0].removeprefix(f"/dicom-web/studies/{self.study}/"))
        if self.status != 200:
            return self.status, "text/plain", b""
        if path.partition("?")[0].endswith("/instances"):
            tree = [
                {
                    tag: {"vr": "UI", "Value": [value]}
                    for tag, value in zip(("00080016", "0020000E", "00080018"), values, strict=True)
                }
                for values in ((CT, self.series, uid) for uid in (self.listed if "offset=0" in path else []))
            ]
            return 200, "application/dicom+json", json.dumps(tree).encode()
        wanted = [uid for uid in self.images if path.endswith(uid)] or list(self.images)
        body = b"".join(b"--x y\r\nContent-Type: application/dicom\r\n\r\n" + self.images[uid] + b"\r\n" for uid in wanted)
        return 200, 'multipart/related; type="application/dicom"; boundary="x y"', body + b"--x y--\r\n"


@pytest.fixture
def pacs(tmp_path: Path) -> Iterator[tuple[Pacs, DicomWeb]]:
    stored = Pacs(head(tmp_path / "study"))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, kind, body = stored.answer(self.path)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            cut = stored.cut_after if kind.startswith("multipart") else None
            self.wfile.write(body[:cut])

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield stored, DicomWeb(f"http://127.0.0.1:{server.server_address[1]}/dicom-web/")
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_read_that_breaks_off_goes_on_with_what_is_missing(spool: Spool, pacs: tuple[Pacs, DicomWeb]) -> None:
    stored, server = pacs
    stored.cut_after = 4 * len(next(iter(stored.images.values())))
    with pytest.raises(MachineError, match="broke off"):
        fetch_study(server, stored.study, spool, source="one")
    (waiting,) = spool.waiting()
    assert 3 <= waiting.images < SLICES
    assert spool.is_cut(spool.name_of(stored.study))
    stored.cut_after = None
    stored.asked.clear()
    shown: list[tuple[int, int]] = []
    name = fetch_study(server, stored.study, spool, source="two", progress=lambda done, total: shown.append((done, total)))
    assert spool.due(0.0) == (name,)
    assert not spool.is_cut(name)
    assert shown[0] == (waiting.images, SLICES)
    assert shown[-1] == (SLICES, SLICES)
    assert len([one for one in stored.asked if one.startswith("series/")]) == SLICES - waiting.images
    stored.asked.clear()
    assert fetch_study(server, stored.study, spool, source="three") == name  # all is there: nothing is fetched twice
    assert not [one for one in stored.asked if one.startswith("series/")]


def test_a_server_that_sends_less_or_other_than_it_lists_makes_no_whole_study(
    spool: Spool, pacs: tuple[Pacs, DicomWeb], tmp_path: Path
) -> None:
    stored, server = pacs
    stored.listed.append("1.2.3.4")
    with pytest.raises(MachineError, match=f"lists {SLICES + 1} CT images of the study and sent {SLICES}"):
        fetch_study(server, stored.study, spool, source="one")
    assert spool.is_cut(spool.name_of(stored.study))
    foreign = next(iter(head(tmp_path / "other", seed=2))).read_bytes()
    stored.listed[:] = list(stored.images)
    fresh = Spool(tmp_path / "fresh", b"key")
    stored.images[stored.listed[3]] = foreign
    with pytest.raises(InputError, match="not the one that was announced"):
        fetch_study(server, stored.study, fresh, source="one")
    assert [one.images for one in fresh.waiting()] == [3]
    assert not files(fresh.folder / "incoming")
    fresh.close()


@pytest.mark.parametrize(
    ("status", "error", "reason"),
    [
        (401, MachineError, r"refuses this user \(HTTP 401\)"),
        (404, InputError, "does not find the study"),
        (503, MachineError, r"refuses \(HTTP 503\)"),
        (302, MachineError, r"refuses \(HTTP 302\)"),
        (204, InputError, "knows no such study"),
    ],
)
def test_each_answer_of_a_dicomweb_server_gets_its_message(
    spool: Spool, pacs: tuple[Pacs, DicomWeb], status: int, error: type[Exception], reason: str
) -> None:
    stored, server = pacs
    stored.status = status
    with pytest.raises(error, match=reason):
        fetch_study(server, stored.study, spool, source="one")


def test_an_address_that_is_none_is_refused_and_a_dead_one_is_named(spool: Spool) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        for url, error, reason in (
            ("file:///etc", InputError, "no http or https address"),
            ("http://user:secret@127.0.0.1/", InputError, "holds a password"),
            (dead, MachineError, "cannot be reached.*refused"),
        ):
            with pytest.raises(error, match=reason):
                fetch_study(DicomWeb(url), "1.2.3", spool, source="one")
    with pytest.raises(InputError, match="not named by a DICOM UID"):
        fetch_study(DicomWeb("http://127.0.0.1/"), "1.2/../3", spool, source="one")


@settings(max_examples=60, deadline=None)
@given(bodies=st.lists(st.binary(max_size=60), max_size=4), sizes=st.lists(st.integers(1, 40), min_size=1, max_size=30))
def test_a_multipart_answer_reads_the_same_however_it_is_cut_into_pieces(bodies: list[bytes], sizes: list[int]) -> None:
    whole = b"preamble\r\n" + b"".join(b"--b\r\nA: b\r\n\r\n" + body + b"\r\n" for body in bodies) + b"--b--\r\n"
    if any(b"\r\n--b" in b"\r\n" + body for body in bodies):
        return

    def pieces() -> Iterator[bytes]:
        at = turn = 0
        while at < len(whole):
            yield whole[at : at + sizes[turn % len(sizes)]]
            at += sizes[turn % len(sizes)]
            turn += 1

    assert [b"".join(part) for part in parts("multipart/related; boundary=b", pieces())] == bodies
    with pytest.raises(MachineError, match="ends in the middle"):
        [b"".join(part) for part in parts("multipart/related; boundary=b", iter([whole[:-6]]))]


def run(*options: object) -> Result:
    """`batchone receive` inside this process."""
    from batchone.pipeline.cli import app

    return CliRunner().invoke(app, ["receive", *map(str, options)])


@pytest.mark.parametrize(
    ("options", "error", "reason"),
    [
        ((), InputError, "0 senders are allowed"),
        (("--allow", "A" * 17), InputError, "AE title is"),
        (("--allow", "PACS", "--aet", ""), InputError, "AE title is"),
        (("--allow", "PACS", "--study", "1.2"), InputError, "--study is given without --order or --from"),
        (("--allow", "PACS", "--user", "one"), OrderError, "--user cannot be given here"),
        (("--allow", "PACS", "--tls-ca", "ca.pem"), InputError, "TLS needs a certificate and its key"),
        (("--allow", "PACS", "--tls-cert", "no.pem", "--tls-key", "no.pem"), MachineError, "cannot be used: No such file"),
        (("--allow", "PACS", "--order", "no.toml"), OrderError, "order cannot be read"),
        (("--from", "http://127.0.0.1:1/"), InputError, "--from is given without --study"),
        (("--from", "http://127.0.0.1:1/", "--allow", "PACS"), OrderError, "--allow cannot be given here"),
        (("--from", "http://127.0.0.1:1/", "--study", "1.2", "--tls-ca", "no.pem"), MachineError, "a TLS file cannot be used"),
        (("--once", "--order", "order.toml"), OrderError, "--order cannot be given here"),
    ],
)
def test_options_that_contradict_or_lack_each_other_are_refused_by_name(
    tmp_path: Path, options: tuple[str, ...], error: type[Exception], reason: str
) -> None:
    result = run("--to", tmp_path / "site", "--keep", tmp_path / "keep", "--port", "0", *options)
    assert isinstance(result.exception, error), result.exception
    assert reason in str(result.exception)
    assert not (tmp_path / "site").exists()


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run("--to", tmp_path / "site", "--keep", tmp_path / "keep", "--port", port, "--allow", "PACS")
    assert isinstance(result.exception, MachineError)
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in str(result.exception)


def test_without_network_the_inbox_is_taken_in_and_what_waits_is_listed(tmp_path: Path) -> None:
    site, hospital = tmp_path / "site", tmp_path / "keep"
    paths = head(tmp_path / "study")
    with gateway(tmp_path) as gate:
        keep_image(gate.spool, paths[0])
        gate.spool.end("one", whole=True)
        gate.look(0.0)
    listed = run("--to", site, "--keep", hospital, "--waiting", "--json")
    assert listed.exit_code == 0
    (waiting,) = checked(listed.stdout)["waiting"]
    assert waiting["images"] == 1
    assert waiting["reason"].startswith("incomplete: no series makes a volume")
    parcel = pack(tmp_path / "study", Keep.open(hospital), order=None)
    deliver(parcel, site)
    (site / "inbox" / f"{'0' * 64}.batchone").write_bytes(b"PK")
    taken = run("--to", site, "--once", "--json")
    assert taken.exit_code == 2  # one was refused
    tree = checked(taken.stdout)
    assert [(one["case"], one["new"], one["images"]) for one in tree["cases"]] == [(parcel.case, True, SLICES)]
    assert [one["parcel"] for one in tree["refused"]] == ["0" * 64]
    again = run("--to", site, "--once")
    assert (again.exit_code, again.stdout) == (0, "nothing came\n")


def checked(text: str) -> dict[str, Any]:
    """A document of `receive --json`, valid by its schema."""
    tree: dict[str, Any] = json.loads(text)
    schema = importlib.resources.files("batchone.pipeline").joinpath("schemas/receive.schema.json").read_text()
    jsonschema.validate(tree, json.loads(schema))
    return tree
