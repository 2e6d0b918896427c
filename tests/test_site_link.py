"""What a cell makes of its site's answers: another's document decides nothing, a break costs nothing, a refusal stands."""

from __future__ import annotations

import datetime as dt
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

import batchone.factory.site_link as site_link
from batchone.factory.inbox import BrokenOff, ClaimLost, Entry, Unreachable
from batchone.factory.reports import Report
from batchone.factory.served_inbox import ServedInbox
from batchone.factory.shelf import Shelf
from batchone.factory.site_link import SiteLink
from batchone.factory.zip_folder import pack
from batchone.pipeline.errors import InputError, MachineError

NOW = dt.datetime(2026, 11, 30, 8, 0, tzinfo=dt.UTC)
JOB = "0123456789abcdef"
REPORT = Report("net-0001", JOB, "print-done", "cell-1")
HTML = httpx.Response(200, html="<p>Sign in to the network</p>")
REFUSED = {"error": {"message": "it is not whole", "hint": "look"}}

Answer = Callable[[httpx.Request], httpx.Response]


def linked(answer: Answer) -> SiteLink:
    """A link whose site answers so; asked who the cell is, it always does."""

    def told(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"name": "cell-1"}) if request.url.path == "/api/v1/me" else answer(request)

    link = SiteLink("http://127.0.0.1:1", "token")
    link._client = httpx.Client(transport=httpx.MockTransport(told), base_url="http://127.0.0.1:1/api/v1")
    return link


@pytest.fixture
def record(tmp_path: Path) -> Path:
    place = tmp_path / f"{JOB}-1"
    place.mkdir()
    (place / "SHA256SUMS").write_text(f"{'0' * 64}  record.json\n")
    return place


@pytest.mark.parametrize(
    "answer",
    [
        HTML,
        httpx.Response(200, json=["other"]),
        httpx.Response(200, json={"name": JOB}),
        httpx.Response(200, content=b"\xff"),
        httpx.Response(204),
        httpx.Response(302, headers={"Location": "/login"}),
        httpx.Response(404, html="<p>not here</p>"),
        httpx.Response(410, json={"gone": True}),
    ],
)
def test_an_answer_that_is_not_of_our_server_decides_nothing(answer: httpx.Response, record: Path, tmp_path: Path) -> None:
    link = linked(lambda _: answer)
    inbox, entry = ServedInbox(link, "cell-1", tmp_path / "cell"), Entry(JOB, "claimed", "cell-1@1", attempt=1)
    asked = (
        lambda: inbox.settle(entry, "printed", NOW), lambda: inbox.renew(entry, NOW), lambda: inbox.claim(JOB, "cell-1@1", NOW),
        inbox.entries, lambda: link.deliver(REPORT), lambda: link.shelve(record),
    )  # fmt: skip
    for ask in asked:
        with pytest.raises(Unreachable):
            ask()


def test_what_our_server_says_is_understood(record: Path, tmp_path: Path) -> None:
    lost = ServedInbox(linked(lambda _: httpx.Response(410, json=REFUSED)), "cell-1", tmp_path)
    with pytest.raises(ClaimLost, match="not whole"):
        lost.renew(Entry(JOB, "claimed", "cell-1@1", attempt=1), NOW)
    linked(lambda _: httpx.Response(200, json={"new": False})).deliver(REPORT)
    with pytest.raises(InputError, match="not whole"):
        linked(lambda _: httpx.Response(409, json=REFUSED)).deliver(REPORT)


class Broken(httpx.SyncByteStream):
    """A body that ends too early."""

    def __iter__(self) -> Iterator[bytes]:
        yield b"PK"
        raise httpx.RemoteProtocolError("peer closed connection")


def broken() -> httpx.Response:
    return httpx.Response(200, stream=Broken())


@pytest.fixture
def job(tmp_path: Path) -> bytes:
    """The zip of a small job."""
    folder = tmp_path / "made" / JOB
    folder.mkdir(parents=True)
    (folder / "job.json").write_bytes(b"{}")
    (folder / "SHA256SUMS").write_text(f"{hashlib.sha256(b'{}').hexdigest()}  job.json\n")
    pack(folder, tmp_path / "job.zip")
    return (tmp_path / "job.zip").read_bytes()


@pytest.mark.parametrize(
    ("bad", "fault"),
    [
        (broken, BrokenOff),
        (lambda: HTML, BrokenOff),
        (lambda: httpx.Response(503, json=REFUSED), BrokenOff),
        (lambda: None, MachineError),
    ],
)
def test_a_download_that_breaks_is_asked_for_after_a_pause_and_says_nothing_against_the_job(
    bad: Callable[[], httpx.Response | None], fault: type[MachineError], job: bytes, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    paused: list[float] = []
    monkeypatch.setattr(site_link.time, "sleep", paused.append)
    whole, other = httpx.Response(200, content=job), httpx.Response(200, content=job.replace(b"{}", b"[]", 1))
    answers = [bad() or other, bad() or other, whole]
    linked(lambda _: answers.pop(0)).fetch("/job", tmp_path / "came" / JOB)
    assert (tmp_path / "came" / JOB / "job.json").read_bytes() == b"{}"
    assert paused == list(site_link._PAUSES_S)
    with pytest.raises(MachineError, match="does not come whole") as raised:
        linked(lambda _: bad() or other).fetch("/job", tmp_path / "other" / JOB)
    assert raised.type is fault
    assert not (tmp_path / "other" / JOB).exists()


def test_a_site_that_is_gone_altogether_is_no_break_of_one_job(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="cannot be reached") as raised:
        SiteLink("http://127.0.0.1:1", "token").fetch("/job", tmp_path / JOB)
    assert raised.type is Unreachable


@pytest.mark.parametrize("code", [409, 413, 422])
def test_a_record_that_is_refused_is_sent_once_and_put_aside_with_the_reason(code: int, record: Path, tmp_path: Path) -> None:
    sent: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.method)
        return httpx.Response(404 if request.method == "GET" else code, json=REFUSED)

    for _ in range(2):
        Shelf(tmp_path / "shelved", linked(answer).shelve).bring([record])
    assert sent == ["GET", "PUT"]
    assert "not whole" in (tmp_path / "shelved" / "refused" / record.name).read_text()
    assert Shelf(tmp_path / "shelved", None).came() == set()


def test_a_record_that_came_is_not_asked_for_again_and_one_that_did_not_is(record: Path, tmp_path: Path) -> None:
    sums, sent = hashlib.sha256((record / "SHA256SUMS").read_bytes()).hexdigest(), []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.method)
        if request.method == "GET":
            return httpx.Response(404, json=REFUSED)
        return httpx.Response(200, json={"sums": sums}) if len(sent) > 2 else httpx.Response(507, json=REFUSED)

    with pytest.raises(Unreachable, match="507"):
        Shelf(tmp_path / "shelved", linked(answer).shelve).bring([record])
    for _ in range(2):
        shelf = Shelf(tmp_path / "shelved", linked(answer).shelve)
        shelf.bring([record])
    assert sent == ["GET", "PUT"] * 2
    assert shelf.came() == {record.name}
    (tmp_path / "shelved" / record.name).unlink()  # a person's word
    shelf.bring([record])
    assert sent == ["GET", "PUT"] * 3
