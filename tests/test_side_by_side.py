"""Pieces of work at the same time give what they give one after another."""

from __future__ import annotations

import threading
from functools import partial

import numba as nb
import numpy as np
import pytest

from batchone.pipeline import side_by_side as room
from batchone.pipeline.side_by_side import beside, side_by_side
from batchone.segment.bits import ball, dilated, packed

CORES = nb.get_num_threads()


def grown(seed: int) -> bytes:
    """A kernel that uses all the cores that it may."""
    mask = np.random.default_rng(seed).random((40, 50, 70)) > 0.98
    return dilated(packed(mask), 70, ball(3.0, (1.0, 1.0, 1.0))).tobytes()


def failing(text: str) -> bytes:
    """A piece that cannot be done."""
    raise ValueError(text)


def test_results_are_those_of_one_after_another_and_in_order() -> None:
    alone = [grown(seed) for seed in range(12)]
    assert side_by_side([partial(grown, seed) for seed in range(12)]) == alone
    assert beside(partial(grown, 3), partial(grown, 4)) == (alone[3], alone[4])


def test_the_first_pieces_error_is_raised_whichever_comes_first() -> None:
    gate = threading.Event()

    def late() -> bytes:
        gate.wait(5.0)
        return failing("first")

    def early() -> bytes:
        gate.set()
        return failing("second")

    grown(0)  # a kernel has run: the scheduler is known
    if CORES < 2:
        gate.set()
    with pytest.raises(ValueError, match="first"):
        side_by_side([late, early])
    with pytest.raises(ValueError, match="main"):
        beside(partial(failing, "main"), partial(failing, "aside"))


def test_the_caller_keeps_its_cores() -> None:
    grown(0)
    side_by_side([partial(grown, seed) for seed in range(3)])
    assert nb.get_num_threads() == CORES


def test_under_numbas_own_scheduler_no_second_thread_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room.nb, "threading_layer", lambda: "workqueue")
    here = threading.get_ident()
    assert side_by_side([threading.get_ident] * 3) == [here] * 3
    assert beside(threading.get_ident, threading.get_ident) == (here, here)


@pytest.mark.skipif(CORES < 2, reason="one core")
def test_with_two_cores_pieces_do_meet() -> None:
    grown(0)
    both = threading.Barrier(2, timeout=5.0)
    assert sorted(side_by_side([both.wait, both.wait])) == [0, 1]
