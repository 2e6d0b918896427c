"""What machines tell comes into the store: each sample once, in files by build; what is wrong is refused and counted."""

from __future__ import annotations

import json
import random
from pathlib import Path

import machine_talk as talk
import pyarrow.parquet as pq
import pytest

from batchone.factory import intake as intake_module
from batchone.factory.intake import PART, Heard, Intake
from batchone.factory.twin.messages import MOST, MOST_BYTES, Alarm
from batchone.pipeline.config import TelemetrySettings, read_site_settings
from batchone.pipeline.errors import MachineError
from batchone.pipeline.telemetry import FOLDER, Session, read_machines, read_picture

NOW_S, DAY_S = 1_800_000_000.0, 86_400.0
PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


@pytest.fixture
def intake(tmp_path: Path) -> Intake:
    return Intake(tmp_path, TelemetrySettings())


def session(intake: Intake, machine: str = "m-1", name: str = "s-1") -> Session:
    found = intake.store.session(machine, name)
    assert found is not None
    return found


def filed(intake: Intake, machine: str = "m-1", name: str = "s-1") -> list[tuple[int, tuple[float, ...]]]:
    """Number and values of every sample in the files of a build, in the order of the files."""
    found = []
    for path in sorted((intake.site / FOLDER / machine / name).glob("*.parquet")):
        table = pq.read_table(path)
        assert table.column_names[:5] == ["number", "heard_s", "time_s", "state", "layer"]
        found += [(row["number"], tuple(row[one] for one in talk.NAMES)) for row in table.to_pylist()]
    return found


def all_filed(intake: Intake, now_s: float = NOW_S) -> None:
    while intake.file(now_s=now_s):
        pass


def refused(intake: Intake) -> dict[tuple[str, str], int]:
    return {(machine, reason): count for machine, reason, count, _ in intake.store.refused()}


def test_each_sample_is_there_once_however_often_and_in_whatever_order_it_comes(intake: Intake) -> None:
    numbers = [*range(500), *random.Random(1).choices(range(500), k=700)]
    random.Random(2).shuffle(numbers)
    messages = [talk.birth(), *map(talk.data, numbers), talk.birth(), talk.death(500)]
    for low in range(0, len(messages), 100):
        intake.take(messages[low : low + 100], now_s=NOW_S)
    found = session(intake)
    assert (found.received, found.last, found.told, found.missing, found.ended) == (500, 499, 500, 0, "ended")
    assert [(row.number, row.numbers) for row in intake.store.rows(found.id, 0, MOST)] == [
        (n, talk.numbers(n)) for n in range(500)
    ]
    all_filed(intake)
    assert filed(intake) == [(n, talk.numbers(n)) for n in range(500)]


def test_a_batch_that_the_disk_does_not_take_leaves_nothing_and_comes_again(intake: Intake) -> None:
    intake.take([talk.birth(), *map(talk.data, range(10))], now_s=NOW_S)
    intake.store.opened.execute("PRAGMA max_page_count = 30")
    intake.take([talk.data(n) for n in range(10, 100)], now_s=NOW_S)
    with pytest.raises(MachineError, match="full"):
        intake.take([talk.data(n) for n in range(100, 2000)], now_s=NOW_S)
    assert session(intake).received == len(intake.store.rows(session(intake).id, 0, MOST)) == 100
    intake.store.opened.execute("PRAGMA max_page_count = 1000000")
    intake.take([talk.data(n) for n in range(2000)], now_s=NOW_S)
    assert (session(intake).received, session(intake).missing) == (2000, 0)


def test_what_does_not_come_is_counted_as_missing(intake: Intake) -> None:
    intake.take([talk.birth(), *(talk.data(n) for n in range(50) if n not in (7, 8, 30))], now_s=NOW_S)
    assert session(intake).missing == 3
    intake.take([talk.death(60)], now_s=NOW_S)
    assert session(intake).missing == 13
    intake.take([talk.data(8)], now_s=NOW_S)
    assert session(intake).missing == 12


def test_a_long_build_is_filed_hour_by_hour_and_the_rest_at_its_end(intake: Intake) -> None:
    intake.take([talk.birth(), *map(talk.data, range(PART - 1))], now_s=NOW_S)
    assert not intake.file(now_s=NOW_S)
    intake.take([talk.data(PART), talk.data(PART - 1)], now_s=NOW_S)
    assert intake.file(now_s=NOW_S)
    assert not intake.file(now_s=NOW_S)
    assert (session(intake).filed, len(filed(intake))) == (PART, PART)
    intake.take([*map(talk.data, range(PART, PART + 5)), talk.death(PART + 5)], now_s=NOW_S)
    all_filed(intake)
    assert filed(intake) == [(n, talk.numbers(n)) for n in range(PART + 5)]


def test_a_sample_that_comes_late_is_filed_too(intake: Intake) -> None:
    intake.take([talk.birth(), *(talk.data(n) for n in range(20) if n != 5), talk.death(20)], now_s=NOW_S)
    all_filed(intake)
    assert len(filed(intake)) == 19
    intake.take([talk.data(5), talk.data(6)], now_s=NOW_S)
    all_filed(intake)
    assert [number for number, _ in filed(intake)] == list(range(20))


def test_a_late_sample_has_its_own_hour_written_again_and_no_other(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake_module, "PART", 10)
    intake.take([talk.birth(), *(talk.data(n) for n in range(40) if n != 15)], now_s=NOW_S)
    all_filed(intake)
    before = {path.name: path.stat().st_mtime_ns for path in intake.site.rglob("*.parquet")}
    intake.take([talk.data(15)], now_s=NOW_S)
    intake.store.opened.execute("UPDATE sessions SET heard_s = 0")
    while intake.cut(now_s=NOW_S + 30 * DAY_S):
        pass
    assert session(intake).cut == 10  # not before the late one is filed
    intake.look()
    all_filed(intake)
    after = {path.name: path.stat().st_mtime_ns for path in intake.site.rglob("*.parquet")}
    assert [name for name in sorted(after) if before.get(name) != after[name]] == ["0000000010.parquet"]
    assert filed(intake) == [(n, talk.numbers(n)) for n in range(40)]
    while intake.cut(now_s=NOW_S + 30 * DAY_S):
        pass
    assert session(intake).cut == 40


def test_a_store_of_the_version_before_is_gone_on_with(intake: Intake) -> None:
    intake.take([talk.birth(), talk.data(0), talk.death(2)], now_s=NOW_S)
    all_filed(intake)
    intake.store.opened.execute("DROP TABLE late")
    intake.store.opened.execute("PRAGMA user_version = 1")
    again = Intake(intake.site, TelemetrySettings())
    again.take([talk.data(0), talk.data(1)], now_s=NOW_S)
    all_filed(again)
    assert [number for number, _ in filed(again)] == [0, 1]


def test_a_number_far_off_stops_no_filing(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake_module, "PART", 10)
    far = MOST - 1
    intake.take([talk.birth(), *map(talk.data, range(5)), talk.data(far), *map(talk.data, range(5, 25))], now_s=NOW_S)
    intake.take([talk.birth("m-2"), *(talk.data(n, "m-2") for n in range(30)), talk.death(30, "m-2")], now_s=NOW_S)
    assert sum(intake.file(now_s=NOW_S) for _ in range(20)) == 3 + 3  # an hour each
    assert (len(filed(intake)), len(filed(intake, "m-2"))) == (25, 30)
    intake.take([talk.death(25)], now_s=NOW_S)
    assert [intake.file(now_s=NOW_S) for _ in range(2)] == [True, False]
    assert [number for number, _ in filed(intake)] == [*range(25), far]
    assert sum(intake.cut(now_s=NOW_S + 30 * DAY_S) for _ in range(20)) == 4 + 3
    assert [row.number for row in intake.store.rows(session(intake).id, 0, MOST)] == [far]


def test_builds_that_are_due_are_filed_in_turn(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake_module, "PART", 10)
    for machine in ("m-1", "m-2"):
        intake.take([talk.birth(machine), *(talk.data(n, machine) for n in range(30))], now_s=NOW_S)
    for hours in (1, 2, 3):
        assert [intake.file(now_s=NOW_S) for _ in range(2)] == [True, True]
        assert [session(intake, machine).filed for machine in ("m-1", "m-2")] == [10 * hours] * 2


@pytest.mark.parametrize("what", ["take", "file", "cut", "look", "identity"])
def test_a_store_that_fails_is_the_workshops_error(intake: Intake, what: str) -> None:
    intake.take([talk.birth(), talk.data(0), talk.death(1)], now_s=NOW_S)
    for table in ("samples", "sessions", "facts"):
        intake.store.opened.execute(f"DROP TABLE {table}")
    use = {
        "take": lambda: intake.take([talk.birth(session="s-2")], now_s=NOW_S), "file": lambda: intake.file(now_s=NOW_S),
        "cut": lambda: intake.cut(now_s=NOW_S), "look": intake.look, "identity": lambda: intake.identity,
    }  # fmt: skip
    with pytest.raises(MachineError, match=r"telemetry\.sqlite does not take it") as refusal:
        use[what]()
    assert refusal.value.exit_code == 5


def test_a_build_whose_machine_went_is_filed_when_it_prints_another_or_after_a_day(intake: Intake) -> None:
    intake.take([talk.birth(), *map(talk.data, range(5))], now_s=NOW_S)
    intake.take([talk.birth("m-2"), talk.data(0, "m-2")], now_s=NOW_S)
    intake.take([talk.birth(session="s-2")], now_s=NOW_S)
    intake.look()
    all_filed(intake)
    assert (len(filed(intake)), len(filed(intake, "m-2"))) == (5, 0)
    assert session(intake).ended == "lost"
    intake.look()
    all_filed(intake, NOW_S + DAY_S + 1.0)
    assert len(filed(intake, "m-2")) == 1


def test_a_build_that_ended_is_not_lost_when_the_next_is_born_at_once(intake: Intake) -> None:
    intake.take([talk.birth(), talk.data(0), talk.death(1), talk.birth(session="s-2"), talk.birth(session="s-3")], now_s=NOW_S)
    assert [session(intake, name=f"s-{n}").ended for n in (1, 2, 3)] == ["ended", "lost", ""]


def test_a_lost_machine_that_comes_back_goes_on(intake: Intake) -> None:
    lost = talk.heard(intake_module.Death(session="s-1", machine="m-1", reason="lost", samples=None), "m-1")
    intake.take([talk.birth(), talk.data(0), lost], now_s=NOW_S)
    assert session(intake).ended == "lost"
    intake.take([talk.birth(), talk.data(1), Heard(lost.topic, lost.payload, retained=True)], now_s=NOW_S)
    assert (session(intake).ended, session(intake).received) == ("", 2)


BAD = {
    "schema": [
        b"{", b"", b"\xff\xfe", b"[]", b"null", json.dumps({"schema": "batchone-machine-data/2"}).encode(),
        talk.data(3).payload.replace(b"-data/1", b"-data/2"), talk.data(3).payload.replace(b'"time_s"', b'"extra":1,"time_s"'),
        talk.data(3).payload.replace(b'"number":3', b'"number":-1'), talk.data(3).payload.replace(b'"number":3', b'"number":3.5'),
        talk.data(3).payload.replace(b'"number":3', b'"number":99999999999999999999'),
        talk.data(3).payload.replace(b"exposing", b"burning"), b"[" * 100_000,
    ],
    "values": [talk.data(3).payload.replace(b"oxygen_percent", b"oxygen_share")],
    "no birth": [talk.data(3, session="s-9").payload, talk.death(3, session="s-9").payload.replace(b"death", b"data")],
    "too large": [b'"' + bytes(MOST_BYTES) + b'"'],
}  # fmt: skip


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", '"1"', "null", "true"])
def test_a_number_that_is_none_is_refused(intake: Intake, number: str) -> None:
    given = str(json.loads(talk.data(3).payload)["values"]["oxygen_percent"]).encode()
    bad = talk.data(3).payload.replace(given, number.encode())
    assert bad != talk.data(3).payload
    intake.take([talk.birth(), Heard("batchone/machines/m-1/data", bad), talk.data(4)], now_s=NOW_S)
    assert refused(intake) == {("m-1", "schema"): 1}
    assert (session(intake).received, session(intake).last) == (1, 4)


@pytest.mark.parametrize("why", sorted(set(BAD) - {"no birth"}))
def test_a_message_that_is_none_is_refused_and_the_others_are_taken(intake: Intake, why: str) -> None:
    bad = [Heard("batchone/machines/m-1/data", text) for text in BAD[why]]
    intake.take([talk.birth(), talk.data(0), *bad, talk.data(1)], now_s=NOW_S)
    assert refused(intake) == {("m-1", why): len(bad)}
    assert session(intake).received == 2


@pytest.mark.parametrize(
    "topic",
    [
        "", "batchone/machines/m-1", "batchone/machines//data", "batchone/machines/a b/data", "batchone/machines/../data",
        "batchone/machines/m-1/data/s-1/1/x", "batchone/machines/m-1/picture", "batchone/machines/m-1/picture/s-1/1/mask",
        "batchone/machines/m-1/picture/../1/powder", "batchone/machines/m-1/other", "batchone/machines/" + "a" * 65 + "/data",
        "batchone/machines/m-1/data\n",
    ],
)  # fmt: skip
def test_a_place_that_is_none_is_refused(intake: Intake, topic: str) -> None:
    intake.take([talk.birth(), Heard(topic, talk.data(0).payload)], now_s=NOW_S)
    assert sum(refused(intake).values()) == 1
    assert {reason for _, reason in refused(intake)} == {"topic"}
    assert session(intake).received == 0


def test_who_is_not_listed_or_speaks_for_another_is_refused_and_names_that_are_made_up_are_not_kept(tmp_path: Path) -> None:
    intake = Intake(tmp_path, TelemetrySettings(machines=("m-1",)))
    intake.take([talk.birth("m-2"), talk.data(0, "m-2"), talk.birth("m-3")], now_s=NOW_S)
    spoken = Heard("batchone/machines/m-1/birth", talk.birth("m-2").payload)
    intake.take([spoken, talk.data(0), talk.birth()], now_s=NOW_S)
    assert refused(intake) == {("", "not listed"): 3, ("", "no birth"): 1, ("m-1", "another machine"): 1}
    open_ = Intake(tmp_path / "open", TelemetrySettings())
    open_.take([talk.data(0, f"made-up-{n}") for n in range(50)], now_s=NOW_S)
    assert refused(open_) == {("", "no birth"): 50}


@pytest.mark.parametrize(
    ("place", "message", "why"),
    [
        ("data", b"{", "schema"), ("data", bytes(MOST_BYTES + 1), "too large"), ("data/s-1/1/x", b"", "topic"),
        ("birth", talk.birth("m-1").payload, "another machine"), ("picture/s-1/1/powder", PNG, "no birth"),
    ],
)  # fmt: skip
def test_no_refusal_keeps_a_name_that_is_made_up(intake: Intake, place: str, message: bytes, why: str) -> None:
    intake.take([Heard(f"batchone/machines/m-{n}/{place}", message) for n in range(9, 12)], now_s=NOW_S)
    assert refused(intake) == {("", why): 3}


def test_more_machines_than_a_site_has_are_refused(intake: Intake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake_module, "MOST_MACHINES", 3)
    intake.take([talk.birth(f"m-{n}") for n in range(5)], now_s=NOW_S)
    intake.take([talk.birth("m-2", "another")], now_s=NOW_S)
    assert refused(intake) == {("", "too many machines"): 2}
    assert intake.store.session("m-2", "another") is not None


def test_alarms_and_pictures_are_kept_once_and_of_the_last_build_alone(intake: Intake) -> None:
    alarm = Alarm(layer=4, name="oxygen")
    picture = Heard("batchone/machines/m-1/picture/s-1/4/powder", PNG)
    intake.take([talk.birth(), talk.data(40, alarms=(alarm,)), talk.data(41, alarms=(alarm,)), picture], now_s=NOW_S)
    intake.take([Heard("batchone/machines/m-1/picture/s-1/3/powder", PNG + b"older")], now_s=NOW_S)
    intake.take([Heard("batchone/machines/m-1/picture/s-1/9/exposure", b"GIF89a")], now_s=NOW_S)
    (machine,) = read_machines(intake.site, rows=10, alarms=10).machines
    assert [(one.layer, one.name, one.time_s) for one in machine.alarms] == [(4, "oxygen", 40.0)]
    assert machine.pictures == {"powder": 4}
    assert (read_picture(intake.site, "m-1", "powder"), read_picture(intake.site, "m-1", "exposure")) == (PNG, None)
    assert refused(intake) == {("m-1", "picture"): 1}
    intake.take([talk.birth(session="s-2")], now_s=NOW_S)
    assert read_picture(intake.site, "m-1", "powder") is None


def test_what_is_recent_is_cut_by_days_and_files_stay(tmp_path: Path) -> None:
    intake = Intake(tmp_path, TelemetrySettings(recent_days=2.0))
    intake.take([talk.birth(), *map(talk.data, range(PART + 10))], now_s=NOW_S)
    all_filed(intake)
    late_s = NOW_S + 2 * DAY_S
    assert not intake.cut(now_s=late_s)  # just inside
    assert intake.cut(now_s=late_s + 1.0)
    assert not intake.cut(now_s=late_s + 1.0)
    assert [row.number for row in intake.store.rows(session(intake).id, 0, MOST)] == list(range(PART, PART + 10))
    intake.take([*map(talk.data, range(PART + 20)), talk.death(PART + 20)], now_s=late_s)  # all of it once more
    assert (session(intake).received, session(intake).missing) == (PART + 20, 0)
    all_filed(intake)
    assert filed(intake) == [(n, talk.numbers(n)) for n in range(PART + 20)]
    while intake.cut(now_s=late_s + 3 * DAY_S):
        pass
    assert intake.store.session("m-1", "s-1") is not None  # its machine's last
    intake.take([talk.birth(session="s-2")], now_s=late_s)
    assert intake.cut(now_s=late_s + 3 * DAY_S)
    assert intake.store.session("m-1", "s-1") is None
    assert len(filed(intake)) == PART + 20


def test_a_build_that_was_let_go_is_not_born_again_over_its_files(intake: Intake) -> None:
    told = [talk.birth(), *map(talk.data, range(5)), talk.death(5)]
    intake.take([*told, talk.birth(session="s-2")], now_s=NOW_S)
    all_filed(intake)
    while intake.cut(now_s=NOW_S + 30 * DAY_S):
        pass
    assert intake.store.session("m-1", "s-1") is None
    intake.take([told[0], talk.data(7), talk.death(8), talk.birth("m-2"), talk.data(0, "m-2")], now_s=NOW_S)
    all_filed(intake)
    assert refused(intake) == {("m-1", "filed before"): 1, ("m-1", "no birth"): 2}
    assert filed(intake) == [(n, talk.numbers(n)) for n in range(5)]
    assert session(intake, name="s-2").ended == ""  # it prints on
    assert session(intake, "m-2").received == 1


def test_what_is_recent_is_cut_by_size_the_oldest_first_and_never_before_it_is_filed(tmp_path: Path) -> None:
    intake = Intake(tmp_path, TelemetrySettings(recent_mb=1.0))
    for k in range(4):
        name = f"s-{k}"
        intake.take([talk.birth(session=name), *(talk.data(n, session=name) for n in range(PART))], now_s=NOW_S + k)
    for _ in range(2):
        intake.take([talk.birth("m-2"), *(talk.data(n, "m-2") for n in range(PART - 1))], now_s=NOW_S + 5)
    while intake.cut(now_s=NOW_S + 10):
        pass
    assert session(intake, name="s-0").cut == 0  # nothing is filed yet
    all_filed(intake)
    while intake.cut(now_s=NOW_S + 10):
        pass
    assert [session(intake, name=f"s-{k}").cut for k in (0, 3)] == [PART, 0]
    assert session(intake, "m-2").cut == 0
    assert [len(filed(intake, name=f"s-{k}")) for k in range(4)] == [PART] * 4


def test_one_process_takes_in_the_telemetry_of_a_site(intake: Intake) -> None:
    with intake.held(), pytest.raises(MachineError, match="another process"), Intake(intake.site, TelemetrySettings()).held():
        pass


def test_who_is_heard_and_how_long_it_is_kept_is_set_by_the_site(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text('[telemetry]\nmachines = ["lpbf-1"]\nrecent_days = 3.0\nrecent_mb = 50.0\n')
    found = read_site_settings(tmp_path).telemetry
    assert (found.machines, found.recent_days, found.recent_mb) == (("lpbf-1",), 3.0, 50.0)
    (tmp_path / "site.toml").write_text("[telemetry]\nrecent_days = 0.0\n")
    with pytest.raises(MachineError, match="recent_days"):
        read_site_settings(tmp_path)
