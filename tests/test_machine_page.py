"""The page of machines: what it draws is what was told, names are escaped, and nothing of it breaks the page's policy."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import machine_talk as talk
import pytest
import site_server

from batchone.factory.intake import Heard, Intake
from batchone.factory.twin.messages import Alarm, Birth, Data, Value
from batchone.pipeline.config import TelemetrySettings
from batchone.pipeline.serve.pages.curves import DIGITS, HIGH, RIM, WIDE, curve
from batchone.pipeline.serve.pages.machine_page import SAMPLES

SCRIPT = "<script>alert(1)</script>"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Any]:
    with site_server.serving(tmp_path / "site") as found:
        yield found


@pytest.fixture
def intake(server: Any) -> Intake:
    return Intake(server.site, TelemetrySettings())


def cards(text: str) -> dict[str, ET.Element]:
    """The cards of a page by their machines; it must be well-formed."""
    root = ET.fromstring("<page>" + re.sub(r"<(img[^>]*)>", r"<\1/>", text) + "</page>")
    return {str(one.get("aria-label")): one for one in root.iter("section")}


def drawn(card: ET.Element, name: str) -> list[list[tuple[float, float]]]:
    """The places of a value's polylines."""
    svg = next(one for one in card.iter("svg") if str(one.get("aria-label")).startswith(name + ":"))
    return [[tuple(map(float, place.split(","))) for place in line.get("points", "").split()] for line in svg.iter("polyline")]  # type: ignore[misc]


def test_the_values_that_are_drawn_are_those_that_were_told(server: Any, intake: Intake) -> None:
    now_s = server.clock()
    count = SAMPLES + 60
    intake.take([talk.birth(), *map(talk.data, range(count))], now_s=now_s)
    card = cards(server.ask("GET", "/machines/now", "engineer").text)["m-1"]
    told = [talk.numbers(number) for number in range(count - SAMPLES, count)]
    for k, name in enumerate(talk.NAMES):
        ((places),) = drawn(card, name)
        least, greatest = min(one[k] for one in told), max(one[k] for one in told)
        assert len(places) == SAMPLES
        for number, ((x, y), one) in enumerate(zip(places, told, strict=True)):
            value = least + (HIGH - RIM - y) / (HIGH - 2 * RIM) * (greatest - least)
            assert value == pytest.approx(one[k], abs=(greatest - least) / (HIGH - 2 * RIM) * 10**-DIGITS)
            assert x == pytest.approx(RIM + number / (SAMPLES - 1) * (WIDE - 2 * RIM), abs=10**-DIGITS)


def test_a_sample_that_is_missing_interrupts_the_line_and_is_told(server: Any, intake: Intake) -> None:
    intake.take([talk.birth(), *(talk.data(n) for n in range(30) if n not in (10, 20, 22))], now_s=server.clock())
    text = server.ask("GET", "/machines/now", "approver").text
    card = cards(text)["m-1"]
    assert [len(run) for run in drawn(card, "oxygen_percent")] == [10, 9, 7]
    assert len(list(card.iter("circle"))) == 3  # sample 21, of each value
    assert "3 missing" in text
    assert "light amber" in text


def test_a_value_that_stays_and_a_single_sample_are_drawn_in_the_middle() -> None:
    level = curve("v", "W", [0, 1], [0.0, 1.0], [5.0, 5.0])
    assert level.runs == (f"{RIM:g},{HIGH / 2:g} {WIDE - RIM:g},{HIGH / 2:g}",)
    assert curve("v", "W", [4], [4.0], [5.0]).dots == ((WIDE - RIM, HIGH / 2),)


def test_state_build_layer_alarms_and_pictures_are_there(server: Any, intake: Intake) -> None:
    now_s = server.clock()
    alarm = Alarm(layer=4, name="oxygen")
    shots = [Heard(f"batchone/machines/m-1/picture/s-1/4/{moment}", PNG + moment.encode()) for moment in ("powder", "exposure")]
    intake.take([talk.birth(), talk.data(40), talk.data(41, alarms=(alarm,)), *shots], now_s=now_s)
    text = server.ask("GET", "/machines", "cell").text
    for words in ("exposing", "s-1", "5 of 100", "oxygen in layer 5", "Layer 5 after the blade", "Layer 5 after the laser"):
        assert words in text
    for moment in ("powder", "exposure"):
        found = server.ask("GET", f"/machines/m-1/picture/{moment}", "cell")
        assert (found.headers["content-type"], found.content) == ("image/png", PNG + moment.encode())
        assert found.headers["x-content-type-options"] == "nosniff"
    for path in ("m-2/picture/powder", "m-1/picture/mask"):
        assert server.ask("GET", f"/machines/{path}", "cell").status_code == 404
    intake.take([talk.death(42)], now_s=now_s)
    assert "(ended)" in server.ask("GET", "/machines", "admin").text


def test_a_machine_from_which_nothing_comes_is_told(server: Any, intake: Intake) -> None:
    intake.take([talk.birth(), talk.data(0)], now_s=server.clock())
    assert "light green" in server.ask("GET", "/machines/now", "engineer").text
    server.clock.ahead_s += 100.0
    text = server.ask("GET", "/machines/now", "engineer").text
    assert "light amber" in text
    assert re.search(r", 10\d s ago", text)


def test_a_build_that_failed_stays_red_when_its_samples_are_cut(server: Any, intake: Intake) -> None:
    failed = talk.data(20)
    intake.take([talk.birth(), *map(talk.data, range(20))], now_s=server.clock())
    intake.take([Heard(failed.topic, failed.payload.replace(b"exposing", b"failed")), talk.death(21)], now_s=server.clock())
    while intake.file(now_s=server.clock()) or intake.cut(now_s=server.clock() + 100 * 86_400.0):
        pass
    found = intake.store.session("m-1", "s-1")
    assert found is not None
    assert (found.cut, len(intake.store.rows(found.id, 0, 21))) == (21, 1)
    text = server.ask("GET", "/machines/now", "engineer").text
    assert '<span class="light red">failed</span>' in text
    assert "3 of 100" in text


def test_what_a_machine_makes_up_is_text_and_the_policy_holds(server: Any, intake: Intake) -> None:
    values = (Value(name="v", unit=SCRIPT),)
    birth = Birth(session="s", machine="evil", profile=SCRIPT, process='"><img src=x>', layers=1, period_s=1.0, values=values)
    data = Data(session="s", number=0, time_s=0.0, state="idle", layer=None, values={"v": 1.0})
    intake.take([talk.heard(birth, "evil"), talk.heard(data, "evil"), Heard("batchone/x", b"x")], now_s=server.clock())
    answer = server.ask("GET", "/machines", "engineer")
    assert "evil" in cards(server.ask("GET", "/machines/now", "engineer").text)
    assert "&lt;script&gt;" in answer.text
    assert SCRIPT not in answer.text
    assert "<img" not in answer.text
    assert not re.search(r"\bstyle=|\bon[a-z]+=|<style", answer.text)
    assert "'unsafe-inline'" not in answer.headers["content-security-policy"]
    found = server.ask("GET", f"/machines?find={SCRIPT}", "engineer").text
    assert SCRIPT not in found


def test_a_machine_is_found_by_its_name_and_all_of_it_shown(server: Any, intake: Intake) -> None:
    intake.take([talk.birth(f"m-{n}", values=3) for n in range(60)], now_s=server.clock())
    intake.take([talk.data(0, "m-7")], now_s=server.clock())
    assert len(cards(server.ask("GET", "/machines/now", "engineer").text)) == 50
    assert list(cards(server.ask("GET", "/machines/now?find=M-59", "engineer").text)) == ["m-59"]
    assert "1 of 60" in server.ask("GET", "/machines/now?find=m-59", "engineer").text


def test_a_site_without_machines_says_so(server: Any) -> None:
    assert "No machine has told of itself" in server.ask("GET", "/machines", "engineer").text
    assert server.ask("GET", "/machines", "hospital").status_code == 403
