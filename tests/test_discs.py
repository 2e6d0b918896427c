"""Which places along a canal become discs: true ones, never the middle of a body."""

from __future__ import annotations

import numpy as np

from batchone.pipeline.values import FloatArray
from batchone.segment.apart.discs import _chain
from batchone.segment.apart.march import _best_inside

DEPTH_MM = 26.0
DISCS_MM = (20, 62, 92, 128)  # along the canal of a short lumbar spine: its course makes the spacings odd


def scores(middles: float) -> FloatArray:
    """Of places 1 mm apart: flat tops at the discs, and something in the middle of each body."""
    found = np.full(147, 0.08)
    for at in DISCS_MM:
        found[at - 2 : at + 3] = 0.95
    for at in (42, 76, 111):
        found[at] = middles
    return found


def test_a_body_is_no_disc_however_even_it_would_make_the_spacings() -> None:
    chain = _chain(scores(0.3), np.full(147, DEPTH_MM))
    assert len(chain) >= 2
    assert all(min(abs(place - at) for at in DISCS_MM) <= 2 for place in chain)


def test_a_faint_disc_that_earns_its_place_is_one() -> None:
    faint = scores(0.08)
    faint[90:95] = 0.42  # the faintest disc of the real scans
    assert any(abs(place - 92) <= 2 for place in _chain(faint, np.full(147, DEPTH_MM)))


def test_a_candidate_that_only_wins_where_the_search_begins_lies_in_the_last_body() -> None:
    margin = np.array([[30.0, 10.0], [20.0, 5.0], [-5.0, -9.0], [8.0, 2.0], [1.0, 0.0]])
    assert _best_inside(margin) == 6  # the next disc is less sharp than the last body's end
    assert _best_inside(margin[:3]) is None
    assert _best_inside(margin - 40.0) is None
    assert _best_inside(margin[::-1]) is not None
