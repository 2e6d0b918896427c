"""Ending a case, and opening an approved one again: signed, once, whatever dies on the way; what was withdrawn is refused."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pydicom
import pytest
import site_server
from typer.testing import CliRunner

from batchone.pipeline import codec
from batchone.pipeline.audit import audit_site
from batchone.pipeline.case import opened_case, run_case, waive_check
from batchone.pipeline.case_answers import reject_case, return_case
from batchone.pipeline.case_approval import sign_case, standing_approval
from batchone.pipeline.case_decisions import MEANINGS, What, decide, publish_decided, refuse_approved
from batchone.pipeline.case_handover import Given, hand_over
from batchone.pipeline.case_labels import take_labels
from batchone.pipeline.case_order import order_digest, read_case_order, replace_order
from batchone.pipeline.case_workshop import record_step, remake
from batchone.pipeline.cli import app
from batchone.pipeline.clock.folder import CaseReader
from batchone.pipeline.clock.legs import QUEUE
from batchone.pipeline.clock.state import standing
from batchone.pipeline.commands.cases import read_board
from batchone.pipeline.commands.status import case_status
from batchone.pipeline.commands.submit import submit_study
from batchone.pipeline.config import Retention
from batchone.pipeline.engine.watch import case_key, last_answer
from batchone.pipeline.errors import BatchoneError, InputError, MachineError, OrderError
from batchone.pipeline.events import EVENTS, append_event, read_chain
from batchone.pipeline.findings import judge
from batchone.pipeline.intake.inbox import Inbox, accept
from batchone.pipeline.job.signature import RELEASE, approval_key, fingerprint, release_key, sign, signers_at
from batchone.pipeline.job.sums import SUMS, SUMS_SIGNATURE, sha256, sums_bytes
from batchone.pipeline.job.verify import verify_job
from batchone.pipeline.job.withdrawal import (
    LIST,
    OUTBOX,
    WithdrawnJob,
    own_withdrawn,
    publish_withdrawn,
    read_answers,
    read_decisions,
    read_withdrawn,
    sign_decision,
    verify_decision,
)
from batchone.pipeline.retention import apply_retention
from batchone.pipeline.revisions import keep_revision, revisions
from batchone.pipeline.store import CaseFolder
from batchone.pipeline.values import Approval, CheckedDevice, Decision, Device, JobFolder
from batchone.samples.small_case import ORDER, write_small_case

CASE, WHO, WHY = "small-0001", "Dr Approver", "too thick"
PASSPHRASE = os.environ["BATCHONE_APPROVER_PASSPHRASE"]
DECISIONS: tuple[What, ...] = ("cancel", "revise")


def make_job(case: CaseFolder, approval: Approval, job: str) -> Path:
    """A sealed job folder as packaging leaves it, with its record; its content is a stand-in."""
    folder = case.path / "job" / job
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(f'{{"job": "{job}"}}')
    sums = sums_bytes({"job.json": sha256((folder / "job.json").read_bytes())})
    (folder / SUMS).write_bytes(sums)
    (folder / SUMS_SIGNATURE).write_text(sign(release_key(case.path.parent.parent / "keys"), sums, namespace=RELEASE))
    taken = {"CheckedDevice": approval.digest, "Approval": codec.digest(approval)}
    record = {"taken": taken, "seconds": 1.0, "started": dt.datetime.now(dt.UTC).isoformat(), "findings": {"$tuple": []}}
    (folder.parent / "stage.json").write_text(json.dumps(record))
    value = codec.flatten(JobFolder(job, f"job/{job}", sha256(sums)))[0]
    (folder.parent / "value.json").write_text(json.dumps(value))
    with case.locked():
        append_event(case.path / EVENTS, who="batchone", what="package done", when=dt.datetime.now(dt.UTC).isoformat())
    return folder


def approved(site: Path, case: CaseFolder) -> Approval:
    device = (case.record("check") or {})["value_digest"]
    return sign_case(site, CASE, who=WHO, device=device, passphrase=PASSPHRASE, ticked=None)


def make_site(site: Path) -> Path:
    """A site with a case that was ordered, checked, approved and released."""
    release_key(site / "keys")
    case = CaseFolder(site / "cases" / CASE)
    if not (case.path / "order.toml").exists():
        (case.path / "order.toml").write_text(ORDER.format(case=CASE))
    checked = CheckedDevice(Device("anatomical-model", ()), (judge("walls", "thinnest", 1.0, "mm", low=0.5),))

    def write(into: Path) -> dict[str, Any]:
        now = dt.datetime.now(dt.UTC).isoformat()
        told = {"started": now, "seconds": 1.0, "taken": {}, "findings": {"$tuple": []}}
        return {**told, "value_digest": codec.save(checked, into)}

    with case.locked():
        for stage in ("intake", "segment", "plan", "design"):
            case.publish(stage, lambda _: {"seconds": 1.0, "taken": {}, "value_digest": "", "findings": {"$tuple": []}})
        digest = case.publish("check", write)["value_digest"]
        append_event(case.path / EVENTS, who="b", what="check done", when=dt.datetime.now(dt.UTC).isoformat(), digest=digest)
        keep_revision(case, order_digest(read_case_order(case.path / "order.toml")))
    make_job(case, approved(site, case), "0123456789abcdef")
    return site


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_site(tmp_path_factory.mktemp("decisions") / "site")


@pytest.fixture
def site(released: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(released, tmp_path / "site"))


def folder(site: Path) -> CaseFolder:
    return CaseFolder(site / "cases" / CASE)


def decided(site: Path, what: What, *, who: str = WHO, reason: str = WHY) -> bool:
    return decide(site, CASE, what, who=who, reason=reason, passphrase=PASSPHRASE)[1]


def said(site: Path) -> list[str]:
    return [event.what for event in read_chain(folder(site).path / EVENTS).events]


def state(site: Path) -> str:
    return case_status(CASE, site).status


def faults(site: Path) -> list[str]:
    return [fault.text for trail in audit_site(site) for fault in trail.faults]


def kinds(job: Path, withdrawn: tuple[WithdrawnJob, ...] = ()) -> set[str]:
    return {one.kind for one in verify_job(job, signers=None, withdrawn=withdrawn).problems}


def listing(site: Path) -> list[tuple[str, str]]:
    return [(one.job, one.what) for one in own_withdrawn(site)]


def test_a_list_that_a_crash_left_behind_is_published_when_a_worker_starts(site: Path) -> None:
    decided(site, "cancel")
    wanted = listing(site)
    assert wanted
    (site / "outbox" / "withdrawn.json").unlink()
    publish_decided(site)
    assert listing(site) == wanted
    publish_decided(site)
    assert listing(site) == wanted


def test_the_parameters_of_an_approved_case_stand_until_it_is_revised(site: Path) -> None:
    case = folder(site)
    with case.locked(), pytest.raises(OrderError, match=f"was approved by {WHO}") as refused:
        refuse_approved(case)
    assert "batchone revise" in (refused.value.hint or "")
    decided(site, "revise")
    with case.locked():
        refuse_approved(case)


def test_a_cancelled_case_takes_nothing_more_and_its_job_is_refused(site: Path, tmp_path: Path) -> None:
    elsewhere = Path(shutil.copytree(folder(site).path / "job" / "0123456789abcdef", tmp_path / "cell"))
    own = folder(site).path / "job" / "0123456789abcdef"
    assert "withdrawn" not in kinds(own) | kinds(elsewhere, read_withdrawn(site, None))
    order = read_case_order(folder(site).path / "order.toml")
    device = (folder(site).record("check") or {})["value_digest"]
    assert decided(site, "cancel")
    before = said(site)
    assert before[-1] == f"cancelled: {WHY}"
    refused: tuple[Callable[[], Any], ...] = (
        lambda: sign_case(site, CASE, who=WHO, device=device, passphrase=PASSPHRASE, ticked=None),
        lambda: waive_check(site, order, "walls", who=WHO, reason=WHY, passphrase=PASSPHRASE),
        lambda: return_case(folder(site), who=WHO, why=WHY),
        lambda: replace_order(folder(site), order, WHO),
        lambda: take_labels(site, order, tmp_path / "labels.nii", who=WHO),
        lambda: opened_case(order, None, site=site).__enter__(),
        lambda: decided(site, "revise"),
    )
    for one in refused:
        with pytest.raises(OrderError, match=f"case {CASE} was cancelled by {WHO}: {WHY}"):
            one()
    for step in (lambda: record_step(site, CASE, "print-started", who="cell-2"), lambda: remake(site, CASE, who=WHO, reason=WHY)):
        with pytest.raises(OrderError, match="the case is cancelled, it has no released job"):
            step()
    assert said(site) == before
    assert kinds(own) - kinds(elsewhere) == {"withdrawn"}  # by the case in whose folder it lies
    assert "withdrawn" in kinds(elsewhere, read_withdrawn(site, signers_at(site / "keys")))
    assert faults(site) == []


@pytest.mark.parametrize("answer", [return_case, reject_case])
@pytest.mark.parametrize("released_too", [True, False])
def test_no_answer_follows_an_approval_until_a_decision_takes_it_back(site: Path, answer: Any, released_too: bool) -> None:
    case, order = folder(site), read_case_order(folder(site).path / "order.toml")
    if not released_too:
        shutil.rmtree(case.path / "job")
    told, before = case.load("review"), said(site)
    with pytest.raises(OrderError, match=f"the device was approved by {WHO} on ") as refused:
        answer(case, who="bob", why="wrong side")
    assert all(f"batchone {what} CASE" in (refused.value.hint or "") for what in ("revise", "cancel"))
    assert said(site) == before
    assert state(site) == ("done" if released_too else "in-progress")
    assert last_answer(case.path) == {"kind": "approved", "digest": codec.digest(told)}
    assert decided(site, "revise")
    answer(case, who="bob", why="wrong side")
    assert (last_answer(case.path) or {})["kind"] == state(site) == ("returned" if answer is return_case else "rejected")
    assert standing_approval(case, told.digest, site / "keys") is None
    assert decided(site, "cancel")
    with pytest.raises(OrderError, match="was cancelled"):
        opened_case(order, None, site=site).__enter__()
    (word,) = read_answers(case.path)
    verify_decision(word, site / "keys")
    assert (word.name, word.reason, word.digest) == ("bob", "wrong side", told.digest)
    assert not (case.path / "job").exists()
    assert faults(site) == []


def test_a_rejected_device_is_not_approved_and_a_returned_one_may_be(site: Path) -> None:
    case, order = folder(site), read_case_order(folder(site).path / "order.toml")
    decided(site, "revise")
    (case.path / "intake" / "stage.json").write_text(json.dumps({"taken": {"Study": "0" * 64}, "seconds": 1.0}))
    return_case(case, who=WHO, why=WHY)
    return_case(case, who=WHO, why="still " + WHY)
    assert approved(site, case) == standing_approval(case, (case.record("check") or {})["value_digest"], site / "keys")
    assert (last_answer(case.path) or {})["kind"] == "approved"
    decided(site, "revise", reason="again")
    reject_case(case, who="bob", why="wrong side")
    before = said(site)
    for one in (
        lambda: approved(site, case),
        lambda: run_case(order, None, site=site, approve_as=WHO, passphrase=PASSPHRASE),
        lambda: return_case(case, who=WHO, why=WHY),
        lambda: reject_case(case, who=WHO, why=WHY),
    ):
        with pytest.raises(OrderError, match=f"case {CASE} was rejected by bob: wrong side"):
            one()
    assert (said(site), state(site), (case.path / "review").exists()) == (before, "rejected", False)
    with case.locked():  # another device came of a changed order
        append_event(case.path / EVENTS, who="b", what="check done", when=dt.datetime.now(dt.UTC).isoformat(), digest="d")
    assert approved(site, case).name == WHO


@pytest.mark.parametrize("answer", [return_case, reject_case])
def test_a_signed_return_or_rejection_is_proved_and_what_is_changed_is_found(site: Path, answer: Any) -> None:
    decided(site, "revise")
    case, how = folder(site), {"who": "bob", "why": "wrong\nside"}
    answer(case, **how, passphrase=PASSPHRASE)
    assert faults(site) == []
    (place,) = (case.path / "answers").iterdir()
    kept, before = place.read_bytes(), said(site)
    place.write_bytes(kept.replace(b"wrong side", b"other side"))
    assert [text for text in faults(site) if "signature of bob" in text]
    place.unlink()  # as a crash between event and answer leaves it: another answer is none of it, the same one completes it
    assert [text for text in faults(site) if "give the same answer again" in text]
    answer(case, **how, passphrase=PASSPHRASE)
    assert (said(site), faults(site)) == (before, [])
    for why in ("", " ", "x" * 401, "a\u202eb"):
        with pytest.raises(OrderError, match="the reason has"):
            answer(case, who="bob", why=why)
    assert said(site) == before


def test_only_who_opens_a_reviewers_key_answers_in_their_name(site: Path) -> None:
    decided(site, "revise")
    before = said(site)
    for answer in (return_case, reject_case):
        with pytest.raises(MachineError, match="passphrase"):
            answer(folder(site), who=WHO, why=WHY, passphrase="not theirs, but long enough")
        with pytest.raises(MachineError, match="demo decides nothing"):
            answer(folder(site), who="demo", why=WHY)
    assert (said(site), state(site)) == (before, "awaiting-approval")


def test_what_an_earlier_version_let_be_rejected_after_its_approval_is_not_made(site: Path) -> None:
    case = folder(site)
    shutil.rmtree(case.path / "job")
    with case.locked():
        append_event(case.path / EVENTS, who="bob", what="rejected: wrong side", when=dt.datetime.now(dt.UTC).isoformat())
    assert (last_answer(case.path) or {})["kind"] == "rejected"
    assert standing_approval(case, (case.record("check") or {})["value_digest"], site / "keys") is None
    with pytest.raises(OrderError, match="was rejected by bob"):
        approved(site, case)


def test_a_revised_case_waits_for_its_review_again_and_the_next_approval_makes_another_job(site: Path) -> None:
    case = folder(site)
    first = case.load("review")
    assert decided(site, "revise")
    assert state(site) == "awaiting-approval"
    assert last_answer(case.path) is None
    assert [(one.number, one.withdrawn) for one in revisions(case.path)] == [(1, True)]
    kept = revisions(case.path)[0].folder
    assert {path.name for path in kept.iterdir()} >= {"review", "job", "order.toml", "revision.json"}
    assert not (case.path / "job").exists()
    assert "withdrawn" in kinds(kept / "job" / "0123456789abcdef")
    second = approved(site, case)
    assert codec.digest(second) != codec.digest(first)  # also of the same device by the same person, at once
    new = make_job(case, second, "fedcba9876543210")
    assert state(site) == "done"
    assert "withdrawn" not in kinds(new, own_withdrawn(site))
    with case.locked():
        assert keep_revision(case, "order").number == 2  # the same device, approved anew, is another revision
    assert decided(site, "revise", reason="too thin")
    assert [one.withdrawn for one in revisions(case.path)] == [True, True]
    assert listing(site) == [("0123456789abcdef", "revised"), ("fedcba9876543210", "revised")]
    assert decided(site, "cancel")
    assert state(site) == "cancelled"
    assert faults(site) == []
    assert [len(one.signatures) for one in audit_site(site) if one.name] == [5]  # two approvals, three decisions


@pytest.mark.parametrize("what", DECISIONS)
def test_said_twice_also_by_two_people_it_stands_once(site: Path, what: What) -> None:
    approval_key(site / "keys", "Another", passphrase=PASSPHRASE)
    children = [_forked(lambda who=who: decided(site, what, who=who, reason=who), deadly=None) for who in (WHO, "Another")]
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    (one,) = read_decisions(folder(site).path)
    assert not decided(site, what)
    assert read_decisions(folder(site).path) == (one,)
    assert [text for text in said(site) if text.endswith(one.reason)] == [
        f"{'cancelled' if what == 'cancel' else 'revised'}: {one.name}"
    ]
    assert len(listing(site)) == 1
    assert faults(site) == []


@pytest.mark.parametrize("what", DECISIONS)
def test_killed_at_any_step_the_same_command_completes_it_and_nothing_is_doubled(
    released: Path, tmp_path: Path, what: What
) -> None:
    undisturbed = Path(shutil.copytree(released, tmp_path / "undisturbed"))
    decided(undisturbed, what)
    for deadly in range(1, 200):
        site = Path(shutil.copytree(released, tmp_path / f"site-{deadly}"))
        child = _forked(lambda site=site: decided(site, what), deadly=deadly)
        ended = os.waitpid(child, 0)[1]
        assert ended in (0, signal.SIGKILL)
        made = read_decisions(folder(site).path)
        assert len(made) in (0, 1)
        if made:  # from here on it counts, whatever is still to be done
            assert state(site) == state(undisturbed)
            assert last_answer(folder(site).path) is None
        with CaseReader_of(site) as looked:
            decided(site, what)
            assert looked() == state(undisturbed)  # a reader that had seen the half-done case sees the whole
        assert said(site) == said(undisturbed), deadly
        assert _files(site) == _files(undisturbed), deadly
        assert faults(site) == [], deadly
        assert listing(site) == listing(undisturbed)
        shutil.rmtree(site)
        if ended == 0:
            break
    assert deadly > 12


class CaseReader_of:  # noqa: N801 - reads as a word
    """What a reader that remembers sees of the case, before and after."""

    def __init__(self, site: Path) -> None:
        self._site, self._reader = site, CaseReader()

    def __enter__(self) -> Callable[[], str]:
        self._look()
        return self._look

    def __exit__(self, *_: object) -> None:
        return

    def _look(self) -> str:
        return standing(self._reader.read(self._site / "cases" / CASE), dt.datetime.now(dt.UTC)).state


def _files(site: Path) -> list[str]:
    found = (path for path in site.rglob("*") if path.is_file() and path.name != "allowed_signers")
    names = (str(path.relative_to(site)) for path in found if path.parent.name != "accepted" or path.name[0] != ".")
    return sorted(re.sub("[0-9a-f]{64}", "DIGEST", name) for name in names)  # of a parcel that says when it was decided


def _forked(work: Callable[[], object], *, deadly: int | None) -> int:
    """The id of a process that does ``work``, killed at its ``deadly``-th step on the disk."""
    child = os.fork()
    if child:
        return child
    left = [deadly or 0]

    def step(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if "/b/" in str(arguments[0]) and event != "os.rename":  # how a parcel is taken in is tested where it is
            return
        if writes or event in ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.link"):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(step)
    try:
        work()
    except BaseException:  # noqa: BLE001 - the parent asks for the status alone
        os._exit(1)
    os._exit(0)


def test_what_may_not_be_decided_is_refused_and_leaves_no_word(site: Path) -> None:
    before = said(site)
    for what, given, told in (
        ("cancel", {"reason": " "}, "must be 1 to 400"),
        ("cancel", {"reason": "a\nb"}, "all printable"),
        ("cancel", {"reason": "w" * 401}, "has 401 characters"),
        ("revise", {"who": "demo"}, "demo decides nothing"),
    ):
        with pytest.raises(BatchoneError, match=told):
            decided(site, what, **given)  # type: ignore[arg-type]
    with pytest.raises(MachineError, match="passphrase"):
        decide(site, CASE, "cancel", who=WHO, reason=WHY, passphrase="another word")
    for case in ("../small-0001", "c-2", ""):
        with pytest.raises(InputError, match="not known"):
            decide(site, case, "cancel", who=WHO, reason=WHY, passphrase=PASSPHRASE)
    shutil.rmtree(folder(site).path / "review")
    with pytest.raises(OrderError, match="no device of the case is approved"):
        decided(site, "revise")
    assert said(site) == before
    assert not (site / OUTBOX).exists()
    assert decided(site, "cancel")  # ends a case at any time
    assert decided(site, "cancel", reason="again") is False


def test_a_reason_of_just_the_length_that_is_let_is_taken(site: Path) -> None:
    assert decided(site, "cancel", reason="w" * 400)


def test_what_was_forged_or_taken_away_is_found(site: Path) -> None:
    decided(site, "revise")
    place = folder(site).path / "decisions" / "0001.json"
    whole = place.read_bytes()
    (one,) = read_decisions(folder(site).path)
    place.write_bytes(whole.replace(WHY.encode(), b"too thin"))
    assert any("does not fit what it signs" in text for text in faults(site))
    forged = sign_decision(one, approval_key(site / "keys", "Another", passphrase=PASSPHRASE))
    place.write_text(json.dumps(codec.flatten(forged)[0]))
    assert any("not allowed" in text for text in faults(site))  # another's key in this one's name
    place.unlink()
    assert any("the case was revised, and decisions/ does not hold it" in text for text in faults(site))
    for text in ("{}", '{"what": ["cancel"]}', "{"):  # a board of many cases stands
        place.write_text(text)
        assert [row.case for row in read_board(site, dt.datetime.now(dt.UTC)).rows] == [CASE]
    for look in (lambda: read_decisions(folder(site).path), lambda: approved(site, folder(site))):
        with pytest.raises(MachineError, match="decision 0001 cannot be read"):
            look()
    place.write_bytes(whole)
    assert faults(site) == []
    with pytest.raises(MachineError, match="one line of printable text"):
        sign_decision(Decision("cancel", CASE, WHO, one.time, "m", "a\nwhat: revise", "", "", ()), release_key(site / "keys"))


def test_the_list_of_withdrawn_jobs_only_grows_and_is_the_sites_own(site: Path, tmp_path: Path) -> None:
    assert read_withdrawn(site, None) == ()
    decided(site, "cancel")
    path = site / OUTBOX / LIST
    (one,) = own_withdrawn(site)
    schema = json.loads(resources.files("batchone.pipeline").joinpath("schemas/withdrawn.schema.json").read_text())
    jsonschema.validate(json.loads(path.read_text()), schema)
    earlier = one.model_copy(update={"job": "a" * 16, "sums_sha256": "a" * 64, "when": one.when - dt.timedelta(days=1)})
    publish_withdrawn(site, (earlier, one))
    assert [job.job for job in own_withdrawn(site)] == ["a" * 16, one.job]
    shutil.rmtree(folder(site).path)  # a case that is gone stays on it
    publish_withdrawn(site, ())
    assert len(own_withdrawn(site)) == 2
    release_key(tmp_path / "other" / "keys")
    with pytest.raises(MachineError, match="not allowed to sign"):
        read_withdrawn(path, signers_at(tmp_path / "other" / "keys"))
    path.write_text(path.read_text().replace("a" * 64, "b" * 64))
    for look in (lambda: own_withdrawn(site), lambda: publish_withdrawn(site, ())):
        with pytest.raises(MachineError, match="does not fit what it signs"):
            look()
    path.write_text("{}")
    with pytest.raises(MachineError, match="cannot be read"):
        read_withdrawn(site, None)
    with pytest.raises(MachineError, match="list of withdrawn jobs"):
        read_withdrawn(tmp_path / "nowhere.json", None)


def test_the_commands_say_the_same_and_verify_ends_with_5(site: Path, tmp_path: Path) -> None:
    elsewhere = Path(shutil.copytree(folder(site).path / "job" / "0123456789abcdef", tmp_path / "cell"))
    for words, code, told in (
        (("revise", CASE, "--reason", WHY, "--as", WHO), 0, "revised by Dr Approver\nwithdrawn: job 0123456789abcdef"),
        (("revise", CASE, "--reason", WHY, "--as", WHO), 0, "as decided before"),
        (("cancel", CASE, "--reason", WHY, "--as", WHO), 0, "cancelled by Dr Approver"),
        (("revise", CASE, "--reason", WHY, "--as", WHO), 2, ""),
    ):
        done = CliRunner().invoke(app, [*words, "--site", str(site)])
        assert getattr(done.exception, "exit_code", 0) == code, done.output
        assert told in done.output
    checked = CliRunner().invoke(app, ["verify", str(elsewhere), "--withdrawn", str(site / OUTBOX / LIST), "--json"])
    assert checked.exit_code == 5
    problems = json.loads(checked.stdout)["problems"]
    assert [one["file"] for one in problems if one["kind"] == "withdrawn"] == ["job.json"]
    assert any("was revised on" in one["text"] for one in problems)


def test_the_clock_and_the_board_tell_what_became_of_it_and_who_acts(site: Path) -> None:
    now = dt.datetime.now(dt.UTC)
    record_step(site, CASE, "print-started", who="cell-2")
    decided(site, "revise")
    (row,) = read_board(site, dt.datetime.now(dt.UTC)).rows
    assert (row.state, row.leg, row.who, row.waits_for) == ("awaiting-approval", "review", "engineer", "an approval")
    stands = standing(CaseReader().read(folder(site).path), dt.datetime.now(dt.UTC))
    assert stands.since is not None
    assert stands.since >= now.replace(microsecond=0)  # its review begins anew
    make_job(folder(site), approved(site, folder(site)), "fedcba9876543210")
    assert standing(CaseReader().read(folder(site).path), dt.datetime.now(dt.UTC)).leg == QUEUE
    record_step(site, CASE, "print-started", who="cell-2")
    decided(site, "cancel")
    assert read_board(site, dt.datetime.now(dt.UTC)).closed == 1
    (row,) = read_board(site, dt.datetime.now(dt.UTC), closed=True).rows
    assert (row.state, row.reason, row.light) == ("cancelled", f"cancelled: {WHY}", "none")
    assert (row.who, row.waits_for) == ("workshop", "its part to be taken out of the workshop")


def test_the_engine_has_another_key_for_each_decision_and_none_of_anothers_case(site: Path) -> None:
    keys = [case_key(folder(site).path)]
    decided(site, "revise")
    keys.append(case_key(folder(site).path))
    decided(site, "cancel")
    keys.append(case_key(folder(site).path))
    assert len(set(keys)) == 3


def test_a_cancelled_case_is_removed_by_retention_and_its_decision_stays(site: Path) -> None:
    decided(site, "revise")
    later = dt.datetime.now(dt.UTC) + dt.timedelta(days=11)
    assert apply_retention(site, Retention(case_days=10), now=later) == ()  # open for changes: neither released nor ended
    decided(site, "cancel")
    assert apply_retention(site, Retention(case_days=10), now=later - dt.timedelta(days=2)) == ()
    assert [one.what for one in apply_retention(site, Retention(case_days=10), now=later)] == ["case"]
    (kept,) = (site / "removed").iterdir()
    names = {str(path.relative_to(kept)) for path in kept.rglob("*") if path.is_file()}
    assert names >= {"decisions/0001.json", "decisions/0002.json", f"revisions/0001/job/0123456789abcdef/{SUMS}"}
    assert listing(site) == [("0123456789abcdef", "revised")]
    assert faults(site) == []


@pytest.fixture(scope="module")
def server(released: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    place = Path(shutil.copytree(released, tmp_path_factory.mktemp("server") / "site"))
    with site_server.serving(place) as found:
        yield found


def test_the_server_asks_for_the_password_and_tells_the_cell(server: Any) -> None:
    path = f"/api/v1/cases/{CASE}"
    assert server.ask("GET", "/api/v1/withdrawn", "cell").json() is None
    assert server.ask("GET", f"{path}/job", "cell").status_code == 200
    given = {"reason": WHY, "password": "a wrong password"}
    assert server.ask("POST", f"{path}/revise", "engineer", json=given).status_code == 403
    given["password"] = site_server.PASSWORD
    page = server.ask("GET", f"/review/{CASE}", "engineer").text
    assert all(MEANINGS[what] in page for what in DECISIONS)
    assert server.ask("POST", f"{path}/revise", "engineer", json=given).json() == {"new": True}
    assert server.ask("POST", f"{path}/revise", "approver", json=given).json() == {"new": False}
    assert server.ask("GET", f"{path}/job", "cell").status_code == 404
    told = server.ask("GET", path, "engineer").json()
    assert (told["status"], told["job"]) == ("awaiting-approval", None)
    form = {"decision": "cancel", **given}
    assert server.ask("POST", f"/review/{CASE}/decide", "approver", data=form | {"decision": "burn"}).status_code == 422
    assert server.ask("POST", f"/review/{CASE}/decide", "approver", data=form | {"reason": ""}).status_code == 422
    assert server.ask("POST", f"/review/{CASE}/decide", "approver", data=form).status_code == 303
    assert server.ask("GET", path, "engineer").json()["status"] == "cancelled"
    answer = {"answer": "approve", "device": told["device"], "password": site_server.PASSWORD}
    refused = server.ask("POST", f"{path}/review", "approver", json=answer)
    assert (refused.status_code, refused.json()["error"]["message"]) == (409, f"case {CASE} was cancelled by approver: {WHY}")
    assert [one["job"] for one in server.ask("GET", "/api/v1/withdrawn", "cell").json()["jobs"]] == ["0123456789abcdef"]
    assert "Sign the decision" not in server.ask("GET", f"/review/{CASE}", "engineer").text


@pytest.fixture(scope="module")
def travelling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sites: ``a`` with a released case that came by parcel, and ``b``, which takes cases from it."""
    place = tmp_path_factory.mktemp("sites")
    order, study = write_small_case(place / "sent", case=CASE)
    for image in sorted(study.iterdir(), key=_height_mm)[20:]:  # the fewest that a protocol takes
        image.unlink()
    submit_study(order, study, to=place / "a", keep=place / "keep", progress=lambda *_: None)
    make_site(place / "a")
    release_key(place / "b" / "keys")
    (place / "b" / "partners").write_text(f"a {release_key(place / 'a' / 'keys').public_key}\n")
    return place


def _height_mm(image: Path) -> float:
    return float(pydicom.dcmread(image, stop_before_pixels=True).ImagePositionPatient[2])


@pytest.fixture
def sites(travelling: Path, tmp_path: Path) -> Path:
    for name in ("a", "b"):
        shutil.copytree(travelling / name, tmp_path / name)
    return tmp_path


def given(sites: Path, to: Path | None = None) -> Given:
    return hand_over(sites / "a", CASE, to=to or sites / "b", who=WHO, reason=WHY, passphrase=PASSPHRASE)


def test_a_case_that_is_handed_over_ends_here_and_begins_there_with_the_same_order_and_images(sites: Path) -> None:
    before = {path.name: path.read_bytes() for path in (folder(sites / "a").path / "study").iterdir()}
    done = given(sites)
    assert (done.new, done.place) == (True, sites / "b" / "cases" / CASE)
    assert {path.name: path.read_bytes() for path in (done.place / "study").iterdir()} == before
    assert read_case_order(done.place / "order.toml") == read_case_order(folder(sites / "a").path / "order.toml")
    assert (state(sites / "a"), state(sites / "b")) == ("handed-over", "received")
    assert listing(sites / "a") == [("0123456789abcdef", "handed-over")]
    taken = read_chain(done.place / EVENTS).events[-1]
    by = fingerprint(release_key(sites / "a" / "keys").public_key)
    assert (taken.what, taken.meaning) == (f"taken over: {WHY}", f"from the site {by}")
    again = given(sites)
    assert (again.new, again.decision, again.place) == (False, done.decision, done.place)
    assert [path.name for path in (sites / "a" / OUTBOX).glob("[!.]*")] == [LIST]
    with pytest.raises(OrderError, match="was handed-over by"):
        given(sites, _line(sites, "c"))  # to a third site
    with pytest.raises(OrderError, match="was handed-over by"):
        decided(sites / "a", "revise")
    assert faults(sites / "a") == faults(sites / "b") == []


def _line(sites: Path, name: str) -> Path:
    release_key(sites / name / "keys")
    return sites / name / "keys" / "release.pub"


def test_what_the_other_site_would_not_take_is_refused_and_nothing_is_ended(sites: Path) -> None:
    case = folder(sites / "a").path
    partners = (sites / "b" / "partners").read_text()

    def refused(told: str, to: Path | None = None) -> None:
        with pytest.raises(InputError, match=told):
            given(sites, to)
        assert not (case / "decisions").exists()

    refused("is this one", sites / "a")
    refused("release key cannot be read", sites / "nowhere.pub")
    (sites / "b" / "partners").write_text(f"c {release_key(sites / 'c' / 'keys').public_key}\n")
    refused("does not name our release key")
    (sites / "b" / "partners").unlink()
    refused("does not name our release key")
    (sites / "b" / "partners").write_text(partners)
    (sites / "b" / "cases" / CASE).mkdir(parents=True)
    refused(f"has a case {CASE}")
    (sites / "b" / "cases" / CASE).rmdir()
    (case / "labels").mkdir()
    refused("labels that a person edited")
    (case / "labels").rmdir()
    (case / "study").rename(case / "away")
    refused("has no study")
    (case / "away").rename(case / "study")
    assert given(sites).new


def test_a_parcel_for_another_site_or_from_a_stranger_or_changed_is_refused(sites: Path) -> None:
    parcel = given(sites, _line(sites, "b")).place
    assert parcel.parent == sites / "a" / OUTBOX
    for name, told in (("c", "this is SHA256:"), ("d", "this is a site without a release key")):
        if name == "c":
            release_key(sites / "c" / "keys")
        with pytest.raises(InputError, match=told):
            accept(sites / name, _brought(parcel, sites / name))
    partners = (sites / "b" / "partners").read_text()
    (sites / "b" / "partners").unlink()
    with pytest.raises(InputError, match=r"comes from the site SHA256:.*not allowed to sign"):
        accept(sites / "b", _brought(parcel, sites / "b"))
    (sites / "b" / "partners").write_text(partners)
    for old, new in ((b'"reason":"too thick"', b'"reason":"too thinn"'), (b"bones = [", b"bones=  [")):
        data = parcel.read_bytes()
        changed = data.replace(old.replace(b'":"', b'": "'), new.replace(b'":"', b'": "'))
        assert changed != data
        other = sites / f"{sha256(changed)}.batchone"
        other.write_bytes(changed)
        with pytest.raises(InputError):
            accept(sites / "b", _brought(other, sites / "b"))
    assert not (sites / "b" / "cases" / CASE).exists()
    assert accept(sites / "b", _brought(parcel, sites / "b")).new


def _brought(parcel: Path, site: Path) -> Path:
    Inbox(site).make()
    return Path(shutil.copy(parcel, site / "inbox" / parcel.name))


def _copied(source: str, target: str) -> None:
    """An image is never changed in place: a second name does."""
    (os.link if source.endswith(".dcm") else shutil.copy2)(source, target)


@pytest.mark.slow
def test_a_hand_over_that_is_killed_at_any_step_is_completed_by_the_same_command(travelling: Path, tmp_path: Path) -> None:
    def copied(name: str) -> Path:
        for site in ("a", "b"):
            shutil.copytree(travelling / site, tmp_path / name / site, copy_function=_copied)
        return tmp_path / name

    undisturbed = copied("undisturbed")
    given(undisturbed)
    wanted = [_files(undisturbed / site) for site in ("a", "b")]
    for deadly in range(1, 200):
        sites = copied(str(deadly))
        ended = os.waitpid(_forked(lambda sites=sites: given(sites), deadly=deadly), 0)[1]
        assert ended in (0, signal.SIGKILL)
        if (sites / "b" / "cases" / CASE).exists():  # never at both
            assert state(sites / "a") == "handed-over"
        given(sites)
        assert [_files(sites / site) for site in ("a", "b")] == wanted, deadly
        assert [said(sites / site) for site in ("a", "b")] == [said(undisturbed / site) for site in ("a", "b")], deadly
        assert faults(sites / "a") == faults(sites / "b") == []
        shutil.rmtree(sites)
        if ended == 0:
            break
    assert deadly > 20


def test_the_command_hands_over(sites: Path) -> None:
    words = ["hand-over", CASE, "--to", str(sites / "b"), "--reason", WHY, "--as", WHO, "--site", str(sites / "a")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "handed-over by Dr Approver" in done.output
    assert f"Case folder: {sites / 'b' / 'cases' / CASE}" in done.output
