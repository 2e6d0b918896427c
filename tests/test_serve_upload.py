"""Uploads to the server: cut and resumed, two at once, quotas, limits, another digest; and what the intake makes of them."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
import site_server

from batchone.pipeline.config import ServerSettings
from batchone.pipeline.errors import InputError, MachineError
from batchone.pipeline.events import read_chain
from batchone.pipeline.hospital.keep import Keep
from batchone.pipeline.hospital.parcel import Parcel, pack
from batchone.pipeline.hospital.upload import Server, require_server, upload
from batchone.pipeline.intake.parcel_file import MAX_PARCEL_BYTES
from batchone.pipeline.serve.parcels import ABANDONED_S
from batchone.pipeline.serve.rights import API
from batchone.samples.dicom import write_series

ORDER = (
    'case = "case-0001"\ndevice = "anatomical-model"\nside = "left"\nprocess = "pa12-sls"\nmachine = "sim-01"\n'
    "due = 2026-02-01T08:00:00Z\n"
)
QUOTA = ServerSettings(open_uploads_per_hospital=3, open_bytes_per_hospital=5_000_000_000)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Any]:
    with site_server.serving(tmp_path / "site", QUOTA) as found:
        yield found


@pytest.fixture(scope="module")
def parcel(tmp_path_factory: pytest.TempPathFactory) -> Parcel:
    folder = tmp_path_factory.mktemp("parcel")
    hu = np.full((24, 48, 48), -1000, dtype=np.int16)
    hu[:, 16:32, 18:28] = 900
    write_series(hu, np.diag([0.5, 0.5, 1.0, 1.0]), folder / "study")
    (folder / "order.toml").write_text(ORDER)
    return pack(folder / "study", Keep.open(folder / "keep"), order=folder / "order.toml")


def _announce(server: Any, data: bytes, hospital: str = "H-1", size: int | None = None) -> tuple[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    answer = server.ask("POST", f"{API}/uploads", "hospital", hospital, json={"digest": digest, "bytes": size or len(data)})
    return f"{API}/uploads/{digest}", answer


def _send(server: Any, path: str, data: bytes, offset: int) -> Any:
    return server.ask("PATCH", path, "hospital", headers={"Upload-Offset": str(offset)}, content=data)


def _cut(server: Any, path: str, data: bytes, *, whole: int) -> None:
    """Send some bytes of a body that is announced longer, and hang up."""
    parts = urlsplit(server.url)
    with socket.create_connection((parts.hostname or "", parts.port or 0)) as opened:
        token = server.headers("hospital")["Authorization"]
        head = (
            f"PATCH {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\nUpload-Offset: 0\r\nContent-Length: {whole}\r\n\r\n"
        )
        opened.sendall(head.encode() + data)
        time.sleep(0.3)


def test_a_parcel_that_is_cut_goes_on_where_it_was_and_becomes_a_case_of_its_hospital(server: Any, parcel: Parcel) -> None:
    data = parcel.path.read_bytes()
    path, answer = _announce(server, data)
    assert (answer.status_code, answer.json()["offset"]) == (200, 0)
    _cut(server, path, data[: len(data) // 3], whole=len(data))
    half = len(data) // 3
    for _ in range(100):
        if server.ask("GET", path, "hospital").json()["offset"] == half:
            break
        time.sleep(0.05)
    token = server.headers("hospital")["Authorization"].split()[1]
    seen: list[int] = []
    done = upload(parcel, Server(server.url, token), lambda at, total: seen.append(at), sleep=lambda s: time.sleep(min(s, 0.1)))
    assert (done.state, done.resumed_at, done.new) == ("taken", half, True)
    assert seen[0] > half
    assert seen[-1] == parcel.bytes
    again = upload(parcel, Server(server.url, token))
    assert (again.state, again.new) == ("taken", False)
    case = server.ask("GET", f"{API}/cases/case-0001", "hospital")
    assert (case.status_code, case.json()["status"], case.json()["images"]) == (200, "received", 24)
    assert server.ask("GET", f"{API}/cases/case-0001", "hospital", "H-2").status_code == 404
    assert json.loads((server.site / "cases" / "case-0001" / "parcel.json").read_text())["sender"] == "H-1"
    assert list((server.site / "inbox" / "senders").iterdir()) == []
    _, theirs = _announce(server, data, "H-2")  # who has its bytes still does not get another's case
    assert theirs.status_code == 409


def test_a_parcel_that_the_intake_refuses_is_told_with_its_reason_and_may_come_again(server: Any) -> None:
    path, _ = _announce(server, b"no zip at all")
    assert _send(server, path, b"no zip at all", 0).json()["state"] == "waiting"
    for _ in range(600):
        told = server.ask("GET", path, "hospital").json()
        if told["state"] == "refused":
            break
        time.sleep(0.05)
    assert (told["state"], told["reason"]) == ("refused", "the parcel is no whole zip")
    assert "batchone submit" in told["hint"]
    assert server.ask("GET", path, "hospital", "H-2").status_code == 404
    assert _announce(server, b"no zip at all")[1].json()["state"] == "open"


def test_only_the_announced_bytes_at_the_right_place_are_taken(server: Any) -> None:
    data = os.urandom(3_000_000)
    path, _ = _announce(server, data)
    assert _send(server, path, data[:1_000_000], 0).json()["offset"] == 1_000_000
    for offset in (0, 999_999, 1_000_001):
        assert _send(server, path, data[1_000_000:], offset).status_code == 409
    assert _send(server, path, data[1_000_000:] + b"!", 1_000_000).status_code == 413
    told = server.ask("GET", path, "hospital").json()
    assert told["offset"] <= len(data)
    assert _send(server, path, data[told["offset"] :], told["offset"]).json()["state"] == "waiting"
    assert _send(server, path, b"x", len(data)).status_code == 409
    other = os.urandom(1000)
    path, _ = _announce(server, other)
    answer = _send(server, path, other[::-1], 0)
    assert (answer.status_code, "another digest" in answer.text) == (422, True)
    assert server.ask("GET", path, "hospital").status_code == 404  # begins anew


def test_two_uploads_of_one_parcel_at_once_write_one_parcel(server: Any) -> None:
    data = os.urandom(20_000_000)
    path, _ = _announce(server, data)
    answers: list[int] = []
    both = [threading.Thread(target=lambda: answers.append(_send(server, path, data, 0).status_code)) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert sorted(answers) == [200, 409]
    assert server.ask("GET", path, "hospital").json()["state"] in ("waiting", "refused")


def test_of_two_parcels_of_one_study_for_one_case_at_once_one_makes_the_case_and_the_other_hears_why(
    server: Any, tmp_path: Path
) -> None:
    hu = np.full((4, 32, 32), -1000, dtype=np.int16)
    hu[:, 8:24, 8:20] = 900
    write_series(hu, np.diag([0.5, 0.5, 1.0, 1.0]), tmp_path / "study")
    keep, parcels = Keep.open(tmp_path / "keep"), []
    for day in (1, 2):
        (tmp_path / "order.toml").write_text(ORDER.replace("2026-02-01", f"2026-02-0{day}"))
        parcels.append(pack(tmp_path / "study", keep, order=tmp_path / "order.toml"))
    assert parcels[0].digest != parcels[1].digest
    token, told = server.headers("hospital")["Authorization"].split()[1], {}

    def send(day: int) -> None:
        try:
            told[day] = upload(parcels[day], Server(server.url, token), sleep=lambda s: time.sleep(min(s, 0.1))).state
        except InputError as error:
            told[day] = f"{error}; {error.hint}"

    both = [threading.Thread(target=send, args=(day,)) for day in (0, 1)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    (won,) = [day for day, state in told.items() if state == "taken"]
    assert "another" in told[1 - won], told
    case = server.site / "cases" / "case-0001"
    assert f"2026-02-0{won + 1}" in (case / "order.toml").read_text()
    assert len(list((case / "study").iterdir())) == 4
    events = [one.what for one in read_chain(case / "events.jsonl").events]
    assert events == ["order received", "study received"]


def test_quotas_and_the_size_of_a_parcel_hold_just_inside_and_just_outside(server: Any) -> None:
    assert _announce(server, b"0", size=MAX_PARCEL_BYTES + 1)[1].status_code == 413
    assert [_announce(server, word, size=MAX_PARCEL_BYTES)[1].status_code for word in (b"1", b"2")] == [200, 200]
    assert _announce(server, b"3", size=1_000_000_001)[1].status_code == 429  # bytes: 4 GB are open, 5 GB allowed
    assert _announce(server, b"3", size=1_000_000_000)[1].status_code == 200
    told = _announce(server, b"4", size=1)[1]
    assert (told.status_code, "3 open uploads, at most 3" in told.text) == (429, True)
    assert _announce(server, b"4", "H-2", size=1)[1].status_code == 200  # another hospital has its own
    path, told = _announce(server, b"1", size=MAX_PARCEL_BYTES)  # the same again needs no room
    assert told.status_code == 200
    assert _announce(server, b"1", size=5)[1].status_code == 409
    assert server.ask("DELETE", path, "hospital").status_code == 204
    assert _announce(server, b"6", size=1)[1].status_code == 200
    server.clock.ahead_s += ABANDONED_S - 60
    assert _announce(server, b"5", size=1)[1].status_code == 429
    server.clock.ahead_s += 120
    assert _announce(server, b"5", size=1)[1].status_code == 200  # nothing came for a week: the others were dropped


def test_the_sender_gives_up_on_what_cannot_work_and_says_why(server: Any, parcel: Parcel) -> None:
    with pytest.raises(InputError, match="401"):
        upload(parcel, Server(server.url, "wrong"))
    free = socket.create_server(("127.0.0.1", 0))
    address = f"http://127.0.0.1:{free.getsockname()[1]}"
    free.close()
    waits: list[float] = []
    with pytest.raises(MachineError, match="cannot be reached"):
        upload(parcel, Server(address, "token"), sleep=waits.append)
    assert waits[:4] == [1.0, 2.0, 4.0, 8.0]
    for url in ("http://site.example", "https://site.example/path", "https://user@site.example", "https://"):
        with pytest.raises(InputError):
            require_server(Server(url, "token"))
    with pytest.raises(InputError, match="no token"):
        require_server(Server("https://site.example", ""))
