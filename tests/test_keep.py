"""The hospital's keep: what it remembers opens with the right secret and passphrase only."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest

from batchone.pipeline.errors import InputError, MachineError
from batchone.pipeline.hospital.keep import FOLDER_VARIABLE, PASSPHRASE_VARIABLE, Keep, Relink, keep_folder
from batchone.pipeline.values import Identity


@pytest.fixture
def keep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keep:
    monkeypatch.delenv(PASSPHRASE_VARIABLE, raising=False)
    return Keep.open(tmp_path / "keep")


def _relink(case: str = "case-1", study: str = "1.2.3", instance: str = "1.2.3.1") -> Relink:
    who = Identity("TEST^ALPHA", "TEST-0001", "19700101", "O", study, "1.2.3.4", "1.2.3.5", "TEST-A-1", "20260105", (instance,))
    uids = (("2.25.1", study), (f"2.25.{instance[-1]}2", instance))
    return Relink(case, who, uids, (("PatientName", "TEST^ÄLPHA=試験"), ("StudyID", "")), -400)


def test_a_case_is_recalled_as_it_was_remembered(keep: Keep) -> None:
    keep.remember(_relink())
    assert keep.recall("case-1") == _relink()
    assert Keep.open(keep.folder).recall("case-1") == _relink()
    assert keep.recall("case-2") is None


def test_nobody_else_can_enter_the_keep_and_nothing_in_it_names_the_patient(keep: Keep) -> None:
    keep.remember(_relink())
    assert keep.folder.stat().st_mode & 0o777 == 0o700
    files = [path for path in keep.folder.rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert not [path for path in files if b"ALPHA" in path.read_bytes() or b"1.2.3" in path.read_bytes()]
    assert "TEST" not in repr(_relink())


def test_a_keep_that_other_users_can_read_is_refused(keep: Keep) -> None:
    (keep.folder / "secret.key").chmod(0o644)
    with pytest.raises(MachineError, match="mode 0644, at most 0600"):
        Keep.open(keep.folder)


def test_another_secret_does_not_open_it(keep: Keep, tmp_path: Path) -> None:
    keep.remember(_relink())
    other = Keep.open(tmp_path / "other")
    shutil.copy(keep.folder / "relink" / "case-1.sealed", other.folder / "relink")
    with pytest.raises(MachineError, match="does not open") as caught:
        other.recall("case-1")
    assert "TEST" not in str(caught.value)


def test_one_changed_bit_anywhere_is_noticed(keep: Keep) -> None:
    keep.remember(_relink())
    place = keep.folder / "relink" / "case-1.sealed"
    sealed = place.read_bytes()
    for at in range(0, len(sealed), 7):
        place.write_bytes(sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :])
        with pytest.raises(MachineError):
            keep.recall("case-1")
    for cut in (0, 10, 40, len(sealed) - 1):
        place.write_bytes(sealed[:cut])
        with pytest.raises(MachineError):
            keep.recall("case-1")


def test_one_case_cannot_stand_for_another(keep: Keep) -> None:
    keep.remember(_relink())
    shutil.copy(keep.folder / "relink" / "case-1.sealed", keep.folder / "relink" / "case-2.sealed")
    with pytest.raises(MachineError, match="does not open"):
        keep.recall("case-2")


def test_a_passphrase_is_needed_once_it_was_used(keep: Keep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "right")
    Keep.open(keep.folder).remember(_relink())
    assert Keep.open(keep.folder).recall("case-1") == _relink()
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "wrong")
    with pytest.raises(MachineError, match="another secret or passphrase"):
        Keep.open(keep.folder).recall("case-1")
    monkeypatch.delenv(PASSPHRASE_VARIABLE)
    with pytest.raises(MachineError, match="sealed with a passphrase, none is set") as caught:
        Keep.open(keep.folder).recall("case-1")
    assert PASSPHRASE_VARIABLE in caught.value.hint


def test_more_images_of_a_study_are_added_and_another_study_is_refused(keep: Keep) -> None:
    keep.remember(_relink())
    keep.remember(_relink(instance="1.2.3.7"))
    known = keep.recall("case-1")
    assert known is not None
    assert dict(known.uids) == {"2.25.1": "1.2.3", "2.25.12": "1.2.3.1", "2.25.72": "1.2.3.7"}
    assert known.identity.instance_uids == ("1.2.3.1", "1.2.3.7")
    with pytest.raises(InputError, match="another study"):
        keep.remember(_relink(study="1.2.9"))
    assert keep.recall("case-1") == known


def test_a_case_id_leads_nowhere_else(keep: Keep) -> None:
    for case in ("../secret", "a/b", "", ".hidden", "a" * 65):
        with pytest.raises(InputError):
            keep.recall(case)
        with pytest.raises(InputError):
            keep.remember(dataclasses.replace(_relink(), case=case))


def test_a_lost_secret_is_not_replaced_by_a_new_one(keep: Keep) -> None:
    keep.remember(_relink())
    (keep.folder / "secret.key").unlink()
    with pytest.raises(MachineError, match="1 sealed cases but no secret"):
        Keep.open(keep.folder)
    (keep.folder / "secret.key").write_text("short\n")
    (keep.folder / "secret.key").chmod(0o600)
    with pytest.raises(MachineError, match="5 characters"):
        Keep.open(keep.folder)


def test_the_keep_lies_where_the_option_or_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "a"))
    assert keep_folder(None) == tmp_path / "a"
    assert keep_folder(tmp_path / "b") == tmp_path / "b"
    monkeypatch.delenv(FOLDER_VARIABLE)
    assert keep_folder(None) == Path("batchone-hospital")
