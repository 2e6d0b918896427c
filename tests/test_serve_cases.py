"""Cases at the server: status, events as they happen, the reviewer's signed answer, the released job on its way out."""

from __future__ import annotations

import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import site_server

from batchone.design.families.anatomical_model import ANATOMICAL_MODEL
from batchone.pipeline.case import case_folder
from batchone.pipeline.case_answers import reject_case
from batchone.pipeline.case_approval import sign_case, standing_approval
from batchone.pipeline.commands.status import case_status
from batchone.pipeline.errors import InputError, MachineError
from batchone.pipeline.events import append_event, read_chain
from batchone.pipeline.job.signature import verify_approval
from batchone.pipeline.serve.rights import API
from batchone.pipeline.store import CaseFolder

WHEN = "2026-01-01T00:00:00+00:00"

POINTS = list(ANATOMICAL_MODEL.limits.checklist)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with site_server.serving(tmp_path_factory.mktemp("cases") / "site") as found:
        yield found


def test_what_is_told_follows_the_case_folder(server: Any) -> None:
    folder = site_server.make_case(server.site, "follows")
    told = server.ask("GET", f"{API}/cases/follows", "hospital").json()
    assert (told["status"], told["job"], told["images"]) == ("awaiting-approval", None, 3)
    assert told["device"] == CaseFolder(folder).record("check")["value_digest"]  # type: ignore[index]
    append_event(folder / "events.jsonl", who="eva", what="returned: rim too thin", when=WHEN)
    told = server.ask("GET", f"{API}/cases/follows", "hospital").json()
    assert (told["status"], told["returned"]) == ("returned", "rim too thin")
    site_server.make_case(server.site, "follows", released=True)
    assert server.ask("GET", f"{API}/cases/follows", "hospital").json()["job"] == site_server.JOB
    assert str(server.site) not in server.ask("GET", f"{API}/cases/follows", "engineer").text  # no path of the server
    for case in ("page-1", "page-2", "page-3"):
        site_server.make_case(server.site, case)
    first = server.ask("GET", f"{API}/cases?after=page&limit=2", "engineer").json()
    rest = server.ask("GET", f"{API}/cases?after={first['next']}&limit=2&status=awaiting-approval", "engineer").json()
    assert [one["case"] for one in (*first["cases"], *rest["cases"])][:3] == ["page-1", "page-2", "page-3"]
    assert rest["next"] is None


def test_a_state_that_is_known_is_not_told_again_until_it_changes(server: Any) -> None:
    folder, path = site_server.make_case(server.site, "asked"), f"{API}/cases/asked"
    first = server.ask("GET", path, "engineer")
    tag = first.headers["etag"]
    for known in (tag, f'"other", W/{tag}'):
        again = server.ask("GET", path, "engineer", headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert server.ask("GET", path, "hospital", "H-2", headers={"If-None-Match": tag}).status_code == 404
    reject_case(CaseFolder(folder), who="eva", why="not for this patient")
    changed = server.ask("GET", path, "engineer", headers={"If-None-Match": tag})
    assert (changed.status_code, changed.json()["status"]) == (200, "rejected")
    assert changed.headers["etag"] != tag


def test_events_come_as_they_happen_and_go_on_after_the_last_one_seen(server: Any) -> None:
    folder = site_server.make_case(server.site, "told")
    stream = f"{server.url}{API}/cases/told/events/stream"

    def happen() -> None:
        append_event(folder / "events.jsonl", who="batchone", what="intake done", when=WHEN, digest="d")

    with server.client.stream("GET", stream, headers=server.headers("hospital")) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        found = []
        for line in answer.iter_lines():
            if line.startswith("data: "):
                found.append(json.loads(line[6:])["what"])
                if len(found) == 1:
                    threading.Timer(0.2, happen).start()
                if len(found) == 2:
                    break
    assert found == ["study received", "intake done"]
    with server.client.stream("GET", stream, headers=server.headers("hospital") | {"Last-Event-ID": "1"}) as answer:
        lines = answer.iter_lines()
        assert next(lines) == "id: 2"
    with (folder / "events.jsonl").open("ab") as opened:
        opened.write(b'{"what": "half a li')  # being written
    whole = server.ask("GET", f"{API}/cases/told/events", "engineer").json()
    assert [event["what"] for event in whole] == ["study received", "intake done"]


def test_a_released_job_is_a_zip_that_holds_its_sums_and_a_cell_gets_no_clinical_report(server: Any) -> None:
    folder = site_server.make_case(server.site, "zipped", released=True) / "job" / site_server.JOB
    whole = server.ask("GET", f"{API}/cases/zipped/job", "hospital")
    assert whole.content == server.ask("GET", f"{API}/cases/zipped/job", "approver").content
    with zipfile.ZipFile(io.BytesIO(whole.content)) as opened:
        assert opened.testzip() is None
        assert all(member.compress_type == zipfile.ZIP_STORED for member in opened.infolist())
        names = {name.removeprefix(f"{site_server.JOB}/") for name in opened.namelist()}
        assert names == {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        for line in opened.read(f"{site_server.JOB}/SHA256SUMS").decode().splitlines():
            digest, name = line.split("  ")
            assert hashlib.sha256(opened.read(f"{site_server.JOB}/{name}")).hexdigest() == digest
    with zipfile.ZipFile(io.BytesIO(server.ask("GET", f"{API}/cases/zipped/job", "cell").content)) as opened:
        left_out = names - {name.removeprefix(f"{site_server.JOB}/") for name in opened.namelist()}
    assert left_out == {"clinical-report.pdf", "dicom/report.dcm"}
    (folder / "build" / "layers.cli").write_bytes(bytes(699_999) + b"!")
    with pytest.raises(httpx.RemoteProtocolError):
        server.ask("GET", f"{API}/cases/zipped/job", "hospital")
    site_server.make_case(server.site, "not-yet")
    assert server.ask("GET", f"{API}/cases/not-yet/job", "hospital").status_code == 409


def test_an_approver_signs_with_the_password_again_and_for_the_device_that_was_seen(server: Any) -> None:
    folder = site_server.make_case(server.site, "reviewed")
    path, device = f"{API}/cases/reviewed/review", CaseFolder(folder).record("check")["value_digest"]  # type: ignore[index]
    answer = {"answer": "approve", "device": device, "password": site_server.PASSWORD}
    assert server.ask("POST", path, "approver", json=answer | {"password": "wrong"}).status_code == 403
    assert server.ask("POST", path, "approver", json=answer | {"device": "0" * 64}).status_code == 409
    assert server.ask("POST", path, "approver", json=answer | {"answer": "return", "reason": " "}).status_code == 422
    unticked = server.ask("POST", path, "approver", json=answer | {"checked": POINTS[:-1]})
    assert (unticked.status_code, f"not confirmed, must be 0: {POINTS[-1]}" in unticked.text) == (409, True)
    assert not (folder / "review").exists()
    answer["checked"] = POINTS
    done = server.ask("POST", path, "approver", json=answer)
    assert (done.status_code, done.json()) == (200, {"answer": "approve", "by": "approver"})
    approval = CaseFolder(folder).load("review")
    verify_approval(approval, server.site / "keys")
    assert (approval.name, approval.digest, approval.demonstration) == ("approver", device, False)
    assert ([name for name, _ in approval.checklist], approval.confirmed) == (POINTS, "one by one")
    assert not (folder / "slice").exists()  # signed, and nothing more
    told = server.ask("GET", f"{API}/cases/reviewed/events", "engineer").json()
    assert (told[-1]["who"], told[-1]["what"], told[-1]["digest"]) == ("approver", "approved", device)
    assert (
        sign_case(server.site, "reviewed", who="another", device=device, passphrase=site_server.PASSWORD, ticked=None).name
        == "approver"
    )  # the first one counts
    assert len(server.ask("GET", f"{API}/cases/reviewed/events", "engineer").json()) == len(told)


def test_two_answers_at_once_and_answers_on_another_device_are_refused(server: Any) -> None:
    folder = site_server.make_case(server.site, "twice")
    device = CaseFolder(folder).record("check")["value_digest"]  # type: ignore[index]
    with CaseFolder(folder).locked(), pytest.raises(MachineError, match="another process"):
        sign_case(server.site, "twice", who="eva", device=device, passphrase=site_server.PASSWORD, ticked=None)
    with pytest.raises(InputError, match="the device that was seen"):
        sign_case(server.site, "twice", who="eva", device="0" * 64, passphrase=site_server.PASSWORD, ticked=None)
    with pytest.raises(InputError, match="the approver is demo"):
        sign_case(server.site, "twice", who="demo", device=device, passphrase=site_server.PASSWORD, ticked=None)
    made = server.ask("POST", f"{API}/accounts", "admin", json={"name": "demo", "roles": ["approver"]})
    assert (made.status_code, "demonstrations alone" in made.text) == (422, True)
    reject_case(CaseFolder(case_folder(server.site, "twice")), who="eva", why="not for this patient")
    assert (case_status("twice", server.site).status, case_status("twice", server.site).returned) == (
        "rejected",
        "not for this patient",
    )
    answer = {"answer": "approve", "device": device, "password": site_server.PASSWORD}
    refused = server.ask("POST", f"{API}/cases/twice/review", "approver", json=answer)
    assert (refused.status_code, "rejected" in refused.text) == (409, True)


def test_of_two_people_who_approve_at_once_one_signs_and_the_other_hears_who(server: Any) -> None:
    folder = site_server.make_case(server.site, "both")
    device = CaseFolder(folder).record("check")["value_digest"]  # type: ignore[index]
    names, answers = [server.person("approver"), "second"], []
    with server.services.store.transaction() as opened:
        (row,) = opened.execute("SELECT password, made_s FROM accounts WHERE name = ?", names[:1])
        opened.execute("INSERT INTO accounts VALUES ('second', ?, 'approver', '', 0, 0, ?)", tuple(row))

    def answer(name: str) -> None:
        token = server.services.credentials.make_token(name, "approver", days=1, label="")[1]
        given = {"answer": "approve", "device": device, "password": site_server.PASSWORD, "checked": POINTS}
        headers = {"Authorization": f"Bearer {token}"}
        answers.append(httpx.post(f"{server.url}{API}/cases/both/review", json=given, headers=headers, timeout=300.0))

    both = [threading.Thread(target=answer, args=(name,)) for name in names]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    signed = [one.json()["by"] for one in answers if one.status_code == 200]
    assert len(set(signed)) == 1
    assert signed[0] in names
    for other in (one for one in answers if one.status_code != 200):  # the first one still held the case
        assert (other.status_code, "another process" in other.text) == (503, True)
    approved = [one for one in read_chain(folder / "events.jsonl").events if one.what == "approved"]
    assert [one.who for one in approved] == signed[:1]
    found = standing_approval(CaseFolder(folder), device, server.site / "keys")
    assert found is not None
    assert found.name == signed[0]


def test_of_an_approval_and_a_rejection_at_once_one_stands(server: Any) -> None:
    folder = site_server.make_case(server.site, "against")
    device, path = CaseFolder(folder).record("check")["value_digest"], f"{API}/cases/against/review"  # type: ignore[index]
    given = {"device": device, "password": site_server.PASSWORD, "checked": POINTS, "reason": "wrong side"}
    answers: dict[str, httpx.Response] = {}

    def answer(kind: str) -> None:
        answers[kind] = server.ask("POST", path, "approver", json=given | {"answer": kind})

    server.person("approver")
    both = [threading.Thread(target=answer, args=(kind,)) for kind in ("approve", "reject")]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    (won,) = [kind for kind, one in answers.items() if one.status_code == 200]
    lost = "reject" if won == "approve" else "approve"
    assert answers[lost].status_code in (409, 503), answers[lost].text  # refused, or the first one still held the case
    again = server.ask("POST", path, "approver", json=given | {"answer": lost})
    assert (again.status_code, ("was approved by" if won == "approve" else "was rejected by") in again.text) == (409, True)
    said = [one.what for one in read_chain(folder / "events.jsonl").events]
    assert [one for one in said if one.startswith(("approved", "rejected"))] == [said[-1]]
    assert (folder / "review").exists() == (won == "approve")


def test_a_cell_tells_what_it_did_to_the_released_job_and_an_engineer_has_it_made_again(server: Any) -> None:
    site_server.make_case(server.site, "printed", released=True)
    path, step = f"{API}/cases/printed/workshop", {"step": "print-started", "job": site_server.JOB, "machine": "sim-01"}
    assert [server.ask("POST", path, "cell", json=step).json()["new"] for _ in range(2)] == [True, False]
    other = server.ask("POST", path, "cell", json=step | {"step": "print-done", "job": "f" * 16})
    assert (other.status_code, site_server.JOB in other.text) == (409, True)
    again = f"{API}/cases/printed/remake"
    assert server.ask("POST", again, "engineer", json={"reason": "warped"}).json() == {"new": True}
    assert server.ask("POST", again, "engineer", json={"reason": "warped"}).json() == {"new": False}  # said twice, it stands once
    assert server.ask("POST", again, "engineer", json={"reason": "torn"}).status_code == 409  # it queues already
    assert server.ask("POST", again, "cell", json={"reason": "torn"}).status_code == 422  # which job?
    assert server.ask("POST", again, "cell", json={"reason": "torn", "job": "f" * 16}).status_code == 409
    found = [(event["who"], event["what"]) for event in server.ask("GET", f"{API}/cases/printed/events", "engineer").json()]
    assert found[-2:] == [("cell", "print started"), ("engineer", "remake: warped")]
    site_server.make_case(server.site, "unprinted")
    assert server.ask("POST", f"{API}/cases/unprinted/workshop", "cell", json=step).status_code == 404


def test_health_and_metrics_count_cases_and_requests(server: Any) -> None:
    site_server.make_case(server.site, "counted", released=True)
    assert server.ask("GET", "/health/ready").json() == {"status": "ok"}
    text = server.ask("GET", "/metrics", "admin").text
    assert text.endswith("# EOF\n")
    lines = text.splitlines()
    states = {line.split('"')[1]: int(line.split()[-1]) for line in lines if line.startswith("batchone_cases{")}
    assert sum(states.values()) == len(list((server.site / "cases").iterdir()))
    assert states["done"] >= 1
    served = 'method="GET",route="/health/ready"'
    assert f'batchone_request_seconds_bucket{{{served},le="+Inf"}} 1' in lines
    assert f'batchone_requests_total{{{served},status="200"}} 1' in lines
    assert not any("counted" in line for line in lines)
