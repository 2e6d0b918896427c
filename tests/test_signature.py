"""Site keys and SSH signatures, against the real ssh-keygen."""

from __future__ import annotations

import datetime as dt
import errno
import hashlib
import os
import pty
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from batchone.pipeline import disk
from batchone.pipeline.cli import app
from batchone.pipeline.errors import MachineError
from batchone.pipeline.events import read_chain
from batchone.pipeline.job.key_file import is_protected
from batchone.pipeline.job.passphrase import VARIABLE
from batchone.pipeline.job.signature import (
    DEMONSTRATOR,
    RELEASE,
    SiteKey,
    approval_key,
    load_or_make_key,
    read_allowed_signers,
    release_key,
    sign,
    sign_approval,
    verify,
    verify_approval,
    write_allowed_signers,
)
from batchone.pipeline.order import Order, order_text
from batchone.pipeline.values import Approval

MESSAGE = b"0123  job.json\n"
EIGHT = "eight888"
TIME = dt.datetime(2026, 11, 22, 10, 0, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "keys"
    release_key(folder)
    approval_key(folder, "Test Reviewer")
    write_allowed_signers(folder)
    return folder


@pytest.fixture(scope="module")
def key(keys: Path) -> SiteKey:
    return release_key(keys)


def _ssh_verify(keys: Path, signature: Path, message: bytes, *, who: str = "release", namespace: str = RELEASE) -> bool:
    command = ["ssh-keygen", "-Y", "verify", "-f", keys / "allowed_signers", "-I", who, "-n", namespace, "-s", signature]
    return subprocess.run(command, input=message, capture_output=True, check=False).returncode == 0


def _approval(**changes: object) -> Approval:
    approval = Approval("Test Reviewer", TIME, "released for manufacturing", "ab" * 32, "")
    return replace(approval, **changes)  # type: ignore[arg-type]


def test_the_signature_is_the_one_that_ssh_keygen_writes(keys: Path, key: SiteKey, tmp_path: Path) -> None:
    message = tmp_path / "SHA256SUMS"
    message.write_bytes(MESSAGE)
    subprocess.run(["ssh-keygen", "-Y", "sign", "-f", keys / "release", "-n", RELEASE, message], check=True, capture_output=True)
    assert (tmp_path / "SHA256SUMS.sig").read_text() == sign(key, MESSAGE, namespace=RELEASE)


def test_stock_ssh_keygen_verifies_the_signature_and_refuses_another_message(keys: Path, key: SiteKey, tmp_path: Path) -> None:
    signature = tmp_path / "m.sig"
    signature.write_text(sign(key, MESSAGE, namespace=RELEASE))
    assert _ssh_verify(keys, signature, MESSAGE)
    assert not _ssh_verify(keys, signature, MESSAGE + b" ")
    assert not _ssh_verify(keys, signature, MESSAGE, namespace="file")


def test_ssh_keygen_reads_the_private_key_and_finds_the_same_public_half(keys: Path, key: SiteKey) -> None:
    shown = subprocess.run(["ssh-keygen", "-y", "-f", keys / "release"], check=True, capture_output=True, text=True).stdout
    assert shown.split()[:2] == key.public_key.split()[:2]
    assert (keys / "release.pub").read_text() == key.public_key + "\n"


def test_a_key_is_made_once_with_mode_0600_and_loaded_after_that(tmp_path: Path) -> None:
    first = load_or_make_key(tmp_path / "keys", "release")
    again = load_or_make_key(tmp_path / "keys", "release")
    assert (tmp_path / "keys" / "release").stat().st_mode & 0o777 == 0o600
    assert first.public_key == again.public_key
    assert sorted(p.name for p in (tmp_path / "keys").iterdir()) == ["release", "release.pub"]
    assert "private" not in repr(first)


def test_a_private_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    release_key(tmp_path)
    (tmp_path / "release").chmod(0o640)
    with pytest.raises(MachineError, match="mode 0640, at most 0600"):
        release_key(tmp_path)


def test_the_release_key_and_an_approval_key_are_two_keys_with_namespaces_of_their_own(keys: Path, tmp_path: Path) -> None:
    approver = approval_key(keys, "Test Reviewer")
    assert approver.public_key.split()[1] != release_key(keys).public_key.split()[1]
    signature = tmp_path / "m.sig"
    signature.write_text(sign(approver, MESSAGE, namespace=RELEASE))
    assert not _ssh_verify(keys, signature, MESSAGE, who=approver.name)
    with pytest.raises(MachineError, match="not allowed"):
        verify(signature.read_text(), MESSAGE, namespace=RELEASE, allowed=read_allowed_signers(keys / "allowed_signers"))


def test_names_of_people_become_different_safe_file_names(tmp_path: Path) -> None:
    names = [approval_key(tmp_path, name).name for name in ("../../x", "Ä B", "A B", "A-B")]
    assert len(set(names)) == 4
    assert all(path.parent == tmp_path and "/" not in path.name for path in tmp_path.iterdir())
    assert len(read_allowed_signers(write_allowed_signers(tmp_path))) == 4


def _spellings(signature: str) -> list[str]:
    lines = signature.splitlines()
    body = "".join(lines[1:-1])
    return [
        signature.rstrip("\n"),
        signature + "\n",
        signature.replace("\n", "\r\n"),
        "\n".join([lines[0], body, lines[-1], ""]),
        "\n".join([lines[0], body[:40], body[40:], lines[-1], ""]),
    ]


def test_other_spellings_of_a_signature_are_refused_though_openssh_takes_some(keys: Path, key: SiteKey, tmp_path: Path) -> None:
    signature = sign(key, MESSAGE, namespace=RELEASE)
    allowed = read_allowed_signers(keys / "allowed_signers")
    assert verify(signature, MESSAGE, namespace=RELEASE, allowed=allowed) == "release"
    taken = 0
    for spelling in _spellings(signature):
        path = tmp_path / "m.sig"
        path.write_bytes(spelling.encode())
        taken += _ssh_verify(keys, path, MESSAGE)
        with pytest.raises(MachineError):
            verify(spelling, MESSAGE, namespace=RELEASE, allowed=allowed)
    assert taken >= 2, "ssh-keygen has become strict: the second check may go"


def test_every_changed_character_of_a_signature_is_refused(keys: Path, key: SiteKey) -> None:
    signature = sign(key, MESSAGE, namespace=RELEASE)
    allowed = read_allowed_signers(keys / "allowed_signers")
    for at in range(len(signature)):
        changed = signature[:at] + ("A" if signature[at] != "A" else "B") + signature[at + 1 :]
        with pytest.raises(MachineError):
            verify(changed, MESSAGE, namespace=RELEASE, allowed=allowed)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no signature",
        "-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n",
        "-----BEGIN SSH SIGNATURE-----\nAA\ufffdA\n-----END SSH SIGNATURE-----\n",
        "\x00" * 9,
    ],
)
def test_what_is_no_signature_is_refused_in_words(text: str, keys: Path) -> None:
    with pytest.raises(MachineError, match="not an Ed25519 SSH signature"):
        verify(text, MESSAGE, namespace=RELEASE, allowed=read_allowed_signers(keys / "allowed_signers"))


def test_an_approval_is_signed_and_verified_by_folder_file_and_ssh_keygen(keys: Path, tmp_path: Path) -> None:
    approval = sign_approval(_approval(), approval_key(keys, "Test Reviewer"))
    verify_approval(approval, keys)
    verify_approval(approval, keys / "allowed_signers")
    signature = tmp_path / "a.sig"
    signature.write_text(approval.signature)
    who = approval_key(keys, "Test Reviewer").name
    assert _ssh_verify(keys, signature, approval.text(), who=who, namespace="batchone-approval")


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "Another Reviewer"},
        {"time": TIME + dt.timedelta(seconds=1)},
        {"meaning": "reviewed"},
        {"digest": "ac" * 32},
        {"demonstration": True},
        {"signature": ""},
        {"public_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOaH1JdPoDMTZoe2dwC+F7gQIaWo8XxebaqphClhblWt x"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_an_approval_with_one_changed_field_is_refused(changes: dict[str, object], keys: Path) -> None:
    approval = sign_approval(_approval(), approval_key(keys, "Test Reviewer"))
    with pytest.raises(MachineError):
        verify_approval(replace(approval, **changes), keys)  # type: ignore[arg-type]


def test_nobody_approves_in_another_reviewers_name(keys: Path) -> None:
    own, other = approval_key(keys, "Test Reviewer"), approval_key(keys, "Another Reviewer")
    verify_approval(sign_approval(_approval(), own), keys)
    with pytest.raises(MachineError, match="not allowed"):
        verify_approval(sign_approval(_approval(), other), keys)


def test_the_mark_of_a_demonstration_cannot_be_taken_off(keys: Path) -> None:
    approval = sign_approval(_approval(demonstration=True), approval_key(keys, "Test Reviewer"))
    verify_approval(approval, keys)
    with pytest.raises(MachineError, match="canonical"):
        verify_approval(replace(approval, demonstration=False), keys)


def test_an_approval_by_an_unknown_key_is_refused(keys: Path, tmp_path: Path) -> None:
    stranger = approval_key(tmp_path, "Test Reviewer")
    with pytest.raises(MachineError, match="not allowed"):
        verify_approval(sign_approval(_approval(), stranger), keys)


@pytest.mark.parametrize("changes", [{"name": "A\ndigest: 00"}, {"meaning": "x\r"}, {"name": " "}, {"digest": "a\tb"}])
def test_words_that_could_fake_a_line_of_the_approval_are_not_signed(changes: dict[str, object], keys: Path) -> None:
    with pytest.raises(MachineError, match="one line of printable text"):
        sign_approval(_approval(**changes), approval_key(keys, "Test Reviewer"))


def test_a_signer_rule_that_is_not_understood_is_refused_not_skipped(keys: Path, tmp_path: Path) -> None:
    line = (keys / "allowed_signers").read_text().splitlines()[-1]
    path = tmp_path / "allowed_signers"
    path.write_text(f"# comment\n\n{line}\n")
    assert len(read_allowed_signers(path)) == 1
    path.write_text(line.replace("namespaces=", 'valid-before="20200101" namespaces=') + "\n")
    with pytest.raises(MachineError, match="line 1 is not understood"):
        read_allowed_signers(path)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT])
def test_a_full_disk_is_said_in_words_and_leaves_no_half_key(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_handle: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(disk.os, "fsync", full)
    with pytest.raises(MachineError, match="disk full: key release") as caught:
        release_key(tmp_path)
    assert caught.value.exit_code == 5
    assert list(tmp_path.iterdir()) == []


def test_an_approvers_key_is_protected_as_ssh_keygen_protects_it(tmp_path: Path) -> None:
    key = approval_key(tmp_path, "a", passphrase=EIGHT)
    path = tmp_path / "approval-a"
    assert is_protected(path)
    shown = [subprocess.run(["ssh-keygen", "-y", "-P", word, "-f", path], capture_output=True, text=True) for word in (EIGHT, "")]
    assert [done.returncode == 0 for done in shown] == [True, False]
    assert shown[0].stdout.split()[:2] == key.public_key.split()[:2]
    assert approval_key(tmp_path, "a", passphrase=EIGHT).public_key == key.public_key
    with pytest.raises(MachineError, match="does not open key approval-a"):
        approval_key(tmp_path, "a", passphrase=EIGHT + " ")


def test_a_passphrase_has_eight_characters_at_least(tmp_path: Path) -> None:
    assert len(EIGHT) == 8
    with pytest.raises(MachineError, match="has 7 characters, at least 8"):
        approval_key(tmp_path, "a", passphrase=EIGHT[:7])
    assert list(tmp_path.iterdir()) == []


def test_a_key_of_an_earlier_version_signs_again_once_it_is_protected_as_the_refusal_says(tmp_path: Path) -> None:
    before = load_or_make_key(tmp_path, "approval-a")
    with pytest.raises(MachineError, match="protected by no passphrase") as caught:
        approval_key(tmp_path, "a", passphrase=EIGHT)
    command = caught.value.hint.removeprefix("protect it: ").split()
    subprocess.run([*command, "-P", "", "-N", EIGHT], check=True, capture_output=True)
    assert approval_key(tmp_path, "a", passphrase=EIGHT).public_key == before.public_key


def test_the_release_key_signs_unattended_and_is_refused_when_it_cannot(tmp_path: Path) -> None:
    release_key(tmp_path)
    assert not is_protected(tmp_path / "release")
    command = ["ssh-keygen", "-p", "-f", tmp_path / "release", "-P", "", "-N", EIGHT]
    subprocess.run(command, check=True, capture_output=True)
    with pytest.raises(MachineError, match="release is protected by a passphrase, and none is given"):
        release_key(tmp_path)


def test_without_a_passphrase_or_a_terminal_nothing_is_signed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE)
    with Path(os.devnull).open() as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        with pytest.raises(MachineError, match="wants its passphrase") as caught:
            approval_key(tmp_path, "a")
    assert f"${VARIABLE}" in caught.value.hint


def test_a_run_that_is_to_be_approved_asks_before_it_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE)
    order = Order(case="c-1", device="anatomical-model", side="midline", process="pa12-sls", machine="sim-01", due=TIME)
    (tmp_path / "order.toml").write_text(order_text(order))
    flags = ["--study", str(tmp_path / "study"), "--out", str(tmp_path / "site"), "--approve-as", "a"]
    done = CliRunner().invoke(app, ["run", str(tmp_path / "order.toml"), *flags])
    assert isinstance(done.exception, MachineError)
    assert "wants its passphrase" in str(done.exception)
    assert not (tmp_path / "site").exists()


@pytest.mark.parametrize(("typed", "told"), [((EIGHT, EIGHT), ""), ((EIGHT, "another1"), "differ"), (("seven77",), "at least 8")])
def test_a_new_passphrase_is_asked_for_twice_on_a_terminal(typed: tuple[str, ...], told: str, tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from batchone.pipeline.job.signature import approval_key\n"
    code += "print(approval_key(Path(sys.argv[1]), 'a').name)"
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    child, terminal = pty.fork()
    if child == 0:
        os.execve(sys.executable, [sys.executable, "-c", code, str(tmp_path)], environment)
    said = b""
    for number, word in enumerate(typed):
        said += _until(terminal, b"New passphrase of a: " if number == 0 else b"Once more: ")
        os.write(terminal, word.encode() + b"\n")
    said += _until(terminal, None)
    os.waitpid(child, 0)
    assert (told or "approval-a").encode() in said
    assert not any(word.encode() in said for word in typed)  # never shown
    assert (tmp_path / "approval-a").exists() == (not told)


def _until(terminal: int, prompt: bytes | None) -> bytes:
    said = b""
    while prompt is None or prompt not in said:
        try:
            block = os.read(terminal, 1024)
        except OSError:  # the other end is closed: Linux says so with EIO
            return said
        if not block:
            return said
        said += block
    return said


def test_the_demonstrator_has_a_key_without_passphrase_that_signs_nothing_else(keys: Path, tmp_path: Path) -> None:
    key = approval_key(tmp_path, DEMONSTRATOR)
    assert not is_protected(tmp_path / "approval-demo")
    verify_approval(sign_approval(_approval(name=DEMONSTRATOR, demonstration=True), key), tmp_path)
    with pytest.raises(MachineError, match="signs demonstrations alone"):
        sign_approval(_approval(name=DEMONSTRATOR), key)
    unmarked = _approval(name=DEMONSTRATOR, public_key=key.public_key)
    forged = replace(unmarked, signature=sign(key, unmarked.text(), namespace="batchone-approval"))
    with pytest.raises(MachineError, match="not allowed to sign"):
        verify_approval(forged, tmp_path)
    signature = tmp_path / "a.sig"
    signature.write_text(forged.signature)
    assert not _ssh_verify(tmp_path, signature, forged.text(), who="approval-demo", namespace="batchone-approval")


def test_a_new_key_is_told_in_the_events_of_the_site(tmp_path: Path) -> None:
    for _ in range(2):
        approval_key(tmp_path / "keys", "a", passphrase=EIGHT)
    (event,) = read_chain(tmp_path / "events.jsonl").events
    assert event.what == "key made: approval-a"
    assert event.digest == hashlib.sha256((tmp_path / "keys" / "approval-a.pub").read_bytes().rstrip()).hexdigest()
