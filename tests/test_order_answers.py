"""What a machine says of an order: what cannot be is not believed, and no alarm is lost."""

from __future__ import annotations

import math
from typing import Any

import pytest

from batchone.factory.as_built import spoilt
from batchone.factory.drivers.order import Followed, OrderSeen

LAYERS = 10


def running(values: dict[str, Any] | None = None, **said: Any) -> OrderSeen:
    return OrderSeen("Running", {"elapsed_s": 1.0, "layers_done": 0, "state": "exposing", **said}, values or {})


@pytest.mark.parametrize("odd", [None, math.nan, math.inf, -1.0, "7", [1], True, object()])
@pytest.mark.parametrize("key", ["elapsed_s", "layers_done"])
def test_a_number_that_is_none_is_not_believed(key: str, odd: object) -> None:
    followed = Followed(LAYERS)
    followed.progress(running(elapsed_s=5.0, layers_done=3))
    told = followed.progress(running(**{"elapsed_s": 6.0, "layers_done": 3, key: odd}))
    assert (told.state, told.layers) == ("running", ())
    assert told.seconds == (5.0 if key == "elapsed_s" else 6.0)


def test_values_that_are_no_numbers_are_left_out() -> None:
    values = {"a": 1, "b": 2.5, "none": None, "nan": math.nan, "text": "3", "list": [1.0], "flag": True, "object": object()}
    (reading,) = Followed(LAYERS).progress(running(values)).readings
    assert reading.values == {"a": 1.0, "b": 2.5}


@pytest.mark.parametrize("done", [LAYERS, LAYERS + 1, 4e9, 1e300])
def test_more_layers_than_the_build_has_are_not_believed(done: float) -> None:
    assert [one.index for one in Followed(LAYERS).progress(running(layers_done=done)).layers] == list(range(LAYERS))


def test_an_alarm_that_is_told_after_its_layer_is_told_once_and_seen() -> None:
    followed = Followed(LAYERS)
    assert [one.alarms for one in followed.progress(running(layers_done=3)).layers] == [(), (), ()]
    told = followed.progress(running(elapsed_s=2.0, layers_done=4, alarms=["1: oxygen, mains"])).layers
    assert [(one.index, one.alarms) for one in told] == [(1, ("oxygen", "mains")), (3, ())]
    assert spoilt(told) == "layer 1: the machine told of mains"
    assert followed.progress(running(elapsed_s=3.0, layers_done=4, alarms=["1: oxygen, mains"])).layers == ()
    later = followed.progress(running(elapsed_s=4.0, layers_done=4, alarms=["1: oxygen, mains", "1: powder"])).layers
    assert [(one.index, one.alarms, one.energy_j) for one in later] == [(1, ("powder",), 0.0)]


@pytest.mark.parametrize("text", ["oxygen low", "4000000000: oxygen low", ": oxygen low", "x: oxygen low", "10: oxygen low"])
def test_an_alarm_without_a_layer_of_the_build_is_of_the_one_under_way(text: str) -> None:
    followed = Followed(LAYERS)
    followed.progress(running(layers_done=3))
    (told,) = followed.progress(running(elapsed_s=2.0, layers_done=3, alarms=[text])).layers
    assert (told.index, told.alarms) == (3, (text,))
    assert [one.alarms for one in followed.progress(running(elapsed_s=3.0, layers_done=5, alarms=[text])).layers] == [(), ()]


@pytest.mark.parametrize("alarms", [None, 7, [None], [7, ""], {"a": 1}])
def test_what_is_no_alarm_is_none(alarms: object) -> None:
    assert [one.alarms for one in Followed(LAYERS).progress(running(layers_done=1, alarms=alarms)).layers] == [()]


@pytest.mark.parametrize(("result", "state"), [(1, "done"), (2, "failed"), (None, "failed"), (True, "failed"), ("1", "failed")])
def test_only_a_result_of_1_is_a_print_that_is_done(result: object, state: str) -> None:
    followed = Followed(LAYERS)
    assert followed.progress(OrderSeen("Ended", {"JobResult": result}, {})).state == state
    assert followed.ended
