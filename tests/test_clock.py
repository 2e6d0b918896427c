"""The clock: plans that can be reckoned by hand, what records teach, and times that cannot be."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchone.pipeline.clock.arrival import STEP_S, Arrival, arrival, broken_off, left_of, printed, row, spectrum
from batchone.pipeline.clock.folder import Estimate
from batchone.pipeline.clock.forecast import LATE_S, Clock
from batchone.pipeline.clock.history import ATTEMPTS, FAILURES, LEG_TIME, RATIO, About, History, Took
from batchone.pipeline.clock.legs import BEFORE_RELEASE, COMPUTED, LEG, LEGS, PRINT, QUEUE, REVIEW
from batchone.pipeline.clock.spread import PRIOR_WEIGHT, TIMES_S, Spread, stated
from batchone.pipeline.config import ClockSettings, WorkshopHours

HOUR_S = 3600.0
ABOUT = About("pedicle-guide", "guide-resin", "sim-01")
NOW = dt.datetime(2026, 11, 30, 8, 0, tzinfo=dt.UTC)
TARGETS_S = dict.fromkeys(COMPUTED, 3.0)
GRID = 0.026  # TIMES_S lie 2.5 % apart: a step function's step is found no better
UNTIL_REVIEW = BEFORE_RELEASE[: BEFORE_RELEASE.index(REVIEW)]


def steps(*parts: tuple[float, float]) -> Spread:
    """So many hours with such a probability, each to the grid."""
    below = np.zeros(len(TIMES_S))
    for hours, share in parts:
        below[np.searchsorted(TIMES_S, hours * HOUR_S * (1.0 - 1e-9)) :] += share
    return Spread(np.minimum(below, 1.0), 0, "by hand")


def clock(history: Sequence[Took] = (), **given: float) -> Clock:
    return Clock(ClockSettings(**given), History(history), {"guide-resin": "vat"}, TARGETS_S)  # type: ignore[arg-type]


def over(until: str, when: dt.datetime = NOW) -> dict[str, dt.datetime | None]:
    names = [leg.name for leg in LEGS]
    return dict.fromkeys(names[: names.index(until) + 1], when)


def mean_s(found: Arrival) -> float:
    return float((1.0 - found.below).sum() * STEP_S)


def taught(leg: str, hours: Sequence[float], about: About = ABOUT) -> list[Took]:
    return [Took(LEG_TIME, leg, about, one * HOUR_S) for one in hours]


def test_a_stated_spread_is_log_normal() -> None:
    found = stated(2.0 * HOUR_S, 3.0, "by hand")
    assert found.quantile_s(0.5) == pytest.approx(2.0 * HOUR_S, rel=1e-3)
    assert found.quantile_s(0.8413) == pytest.approx(6.0 * HOUR_S, rel=2e-3)
    assert found.quantile_s(0.1587) == pytest.approx(2.0 / 3.0 * HOUR_S, rel=2e-3)
    assert found.times(1.5).quantile_s(0.5) == pytest.approx(3.0 * HOUR_S, rel=1e-3)
    for median_s, factor in ((0.0, 2.0), (1.0, 1.0)):
        with pytest.raises(ValueError, match="must be above 0 and 1"):
            stated(median_s, factor, "")


def test_what_was_known_counts_as_eight_records_beside_the_records() -> None:
    prior = steps((1.0, 1.0))
    assert prior.taught([], "none") is prior
    for count in (1, 8, 1000):
        found = prior.taught([5.0 * HOUR_S] * count, "site")
        share = float(found.share_within(np.array([3.0 * HOUR_S]))[0])
        assert share == pytest.approx(PRIOR_WEIGHT / (PRIOR_WEIGHT + count), abs=1e-9)
        assert found.records == count


def test_records_of_any_shape_are_learned_as_they_are() -> None:
    random = np.random.default_rng(3)
    quick = random.random(4000) < 0.9
    hours = np.where(quick, random.uniform(1.0, 2.0, 4000), random.uniform(14.0, 16.0, 4000))  # in hours, or the next morning
    found = stated(HOUR_S, 2.0, "").taught([float(one) * HOUR_S for one in hours], "site")
    for share in (0.2, 0.5, 0.8, 0.95, 0.98):
        assert found.quantile_s(share) == pytest.approx(float(np.quantile(hours, share)) * HOUR_S, rel=0.03)


def test_legs_one_after_the_other_by_hand() -> None:
    """1 h, then 2 h or 4 h: over after 3 h or 5 h, each half the time."""
    found = arrival(spectrum(row(steps((1.0, 1.0)))) * spectrum(row(steps((2.0, 0.5), (4.0, 0.5)))))
    assert found.within_s(0.49) == pytest.approx(3.0 * HOUR_S, rel=GRID, abs=STEP_S)
    assert found.within_s(0.51) == pytest.approx(5.0 * HOUR_S, rel=GRID, abs=STEP_S)
    assert mean_s(found) == pytest.approx(4.0 * HOUR_S, rel=GRID, abs=STEP_S)
    assert found.chance_after(row(steps((1.0, 1.0))), 4.5 * HOUR_S) == pytest.approx(0.5, abs=1e-6)
    assert found.chance_after(row(steps((1.0, 1.0))), -1.0) == 0.0


def test_what_never_ends_does_not_come_back_at_the_beginning() -> None:
    """Ten legs of 3 days each are over after 30 days, beyond the grid of 11: the probability is 0, not that of 30 - 23 days."""
    found = arrival(spectrum(row(steps((72.0, 1.0)))) ** 10)
    assert found.below[-1] < 1e-6
    assert found.within_s(0.5) is None


def test_a_leg_that_has_lasted_is_judged_by_what_is_left_of_it() -> None:
    whole = row(steps((1.0, 0.5), (4.0, 0.5)))
    hours = np.arange(len(whole)) * STEP_S / HOUR_S
    assert float(left_of(whole, 2.0 * HOUR_S) @ hours) == pytest.approx(2.0, abs=4.0 * GRID + 2.0 * STEP_S / HOUR_S)
    assert left_of(whole, 0.0) is whole
    assert left_of(whole, 5.0 * HOUR_S) is whole, "longer than any: as begun anew"
    assert left_of(whole, 1e9) is whole
    assert float(broken_off(whole) @ hours) == pytest.approx(1.25, abs=4.0 * GRID)  # half of each
    assert broken_off(whole).sum() == pytest.approx(1.0)


def test_a_print_that_fails_queues_again() -> None:
    """Print 2 h, one of four breaks off at any moment and waits for 1 h: by hand, with u even in 0 to 1.

    At once with 0.75 after 2 h; the second time with 0.1875 after 3 + 2u h; the mean is 2 h + 1/3 of (1 h + 1 h).
    """
    found = arrival(printed(spectrum(row(steps((1.0, 1.0)))), row(steps((2.0, 1.0))), 0.25))
    assert mean_s(found) == pytest.approx((2.0 + 2.0 / 3.0) * HOUR_S, rel=GRID)
    for hours, share in ((1.9, 0.0), (2.2, 0.75), (2.9, 0.75), (3.9, 0.75 + 0.45 * 0.1875)):
        assert found.below[int(hours * HOUR_S / STEP_S)] == pytest.approx(share, abs=0.007)  # 2.5 % of 3 h of the 2 h of u
    records = [Took(ATTEMPTS, PRINT, ABOUT, 1.0)] * 92 + [Took(FAILURES, PRINT, ABOUT, 1.0)] * 23
    assert History(records).print_fails(ABOUT, 0.03) == pytest.approx((8 * 0.03 + 23) / 100)


def test_the_whole_plan_against_draws_of_the_same_spreads() -> None:
    """An oracle of its own: 200,000 days drawn leg by leg, with prints that fail."""
    made = clock(print_fails=0.1)
    estimate = Estimate(3.0 * HOUR_S, 2.5 * HOUR_S, 3.6 * HOUR_S)
    spreads = made.spreads(ABOUT, estimate)
    random = np.random.default_rng(7)
    count = 200_000

    def drawn(leg: str) -> np.ndarray:
        inside = np.interp(random.random(count), spreads[leg].below, np.log(TIMES_S))
        return np.asarray(np.exp(inside))

    total = sum((drawn(leg) for leg in spreads if leg not in UNTIL_REVIEW and leg not in (REVIEW, PRINT)), np.zeros(count))
    pending = np.ones(count, dtype=bool)
    for _ in range(12):
        fails = random.random(count) < 0.1
        print_ = drawn(PRINT)
        total += pending * np.where(fails, print_ * random.random(count) + drawn(QUEUE), print_)
        pending &= fails
    for hours in (12.0, 18.0, 30.0):
        found = made.forecast(
            ABOUT, NOW + dt.timedelta(hours=hours), NOW, over=over(REVIEW), since=NOW, estimate=estimate
        ).probability
        assert found == pytest.approx(float((total <= hours * HOUR_S).mean()), abs=0.005)
    due = NOW + dt.timedelta(hours=60)
    last = made.forecast(ABOUT, due, NOW, over=over("check"), since=NOW, estimate=estimate).last_safe_approval
    assert last is not None
    assert (due - last).total_seconds() == pytest.approx(float(np.quantile(total, 0.95)), rel=0.01)


def test_what_it_tells_comes_true_in_a_workshop_that_is_not_log_normal() -> None:
    """400 cases teach, 2,000 others are told of: as many are on time as told, within two standard errors and 0.02."""
    random = np.random.default_rng(11)

    def workshop(count: int) -> dict[str, np.ndarray]:
        night = np.where(random.random(count) < 0.1, random.uniform(8.0, 14.0, count), 0.0)
        legs = {"slice": 0.001, "package": 0.001, QUEUE: 1.0 + random.pareto(2.0, count), PRINT: random.gamma(9.0, 0.3, count)}
        legs |= {"post-processing": random.uniform(1.0, 3.0, count), "inspection": random.weibull(1.5, count) * 0.6}
        legs |= {"sterilisation": random.uniform(2.5, 5.5, count), "transport": random.gamma(12.0, 0.2, count) + night}
        return {leg: np.broadcast_to(hours, count) for leg, hours in legs.items()}

    made = clock([one for leg, hours in workshop(400).items() for one in taught(leg, hours.tolist())], print_fails=0.0)
    total_h = sum(workshop(2000).values())
    due_h = random.uniform(8.0, 40.0, 2000)
    told = np.array(
        [made.forecast(ABOUT, NOW + dt.timedelta(hours=h), NOW, over=over(REVIEW), since=NOW).probability for h in due_h]
    )
    came = total_h <= due_h
    for low, high in ((0.2, 0.8), (0.9, 1.0)):
        within = (told > low) & (told <= high)
        error = 2.0 * math.sqrt(float((told * (1.0 - told))[within].sum())) / within.sum()
        assert within.sum() > 100
        assert abs(float(told[within].mean() - came[within].mean())) < error + 0.02
    assert float(((told - came) ** 2).mean()) < 0.5 * float(
        came.mean() * (1.0 - came.mean())
    )  # the Brier score of always one share


@pytest.mark.parametrize("level", [0.8, 0.95])
def test_an_approval_just_before_the_last_safe_time_is_safe_and_just_after_it_is_not(level: float) -> None:
    made, due = clock(level=level), NOW + dt.timedelta(hours=50)
    last = made.forecast(ABOUT, due, NOW, over=over("check"), since=NOW).last_safe_approval
    assert last is not None

    def chance(minutes: float) -> float:
        approved = last + dt.timedelta(minutes=minutes)
        return made.forecast(ABOUT, due, approved, over=over(REVIEW, approved), since=approved).probability

    assert chance(-5.0) >= level > chance(5.0)


@settings(max_examples=60, deadline=None)
@given(
    hours=st.lists(st.floats(0.0, 200.0), min_size=2, max_size=2),
    due_h=st.floats(-10.0, 250.0),
    records=st.lists(st.floats(0.01, 100.0), max_size=12),
)
def test_a_later_approval_never_raises_the_probability(hours: list[float], due_h: float, records: list[float]) -> None:
    made, due = clock(taught(QUEUE, records)), NOW + dt.timedelta(hours=due_h)
    sooner, later = (
        made.forecast(ABOUT, due, when, over=over(REVIEW, when), since=when).probability
        for when in (NOW + dt.timedelta(hours=one) for one in sorted(hours))
    )
    assert 0.0 <= later <= sooner + 1e-9 <= 1.0 + 2e-9


def test_a_review_that_lasts_makes_the_case_less_likely_on_time_and_is_named_as_late() -> None:
    made, due = clock(), NOW + dt.timedelta(hours=40)
    at_most_s = made.spreads(ABOUT)[REVIEW].quantile_s(0.95)
    started = over("check")

    def at(seconds: float) -> tuple[float, str | None]:
        found = made.forecast(ABOUT, due, NOW + dt.timedelta(seconds=seconds), over=started, since=NOW)
        return found.probability, found.late

    assert at(0.0)[0] > at(6.0 * HOUR_S)[0] > at(20.0 * HOUR_S)[0]
    assert at(at_most_s + LATE_S - 1.0)[1] is None
    assert at(at_most_s + LATE_S + 1.0)[1] == REVIEW
    ended = over("check") | {REVIEW: NOW + dt.timedelta(seconds=at_most_s + LATE_S + 1.0)}
    assert made.forecast(ABOUT, due, NOW, over=ended, since=None).late == REVIEW, "also when it is over"
    again = over("plan") | {"design": NOW + dt.timedelta(hours=30), "check": NOW + dt.timedelta(hours=30)}
    assert made.forecast(ABOUT, due, NOW, over=again, since=None).late is None, (
        "a device that people changed later is no slow stage"
    )


def test_without_records_the_plan_says_that_its_numbers_are_unverified() -> None:
    plan = {one.leg: one for one in clock().plan(ABOUT, {})}
    assert list(plan) == [leg.name for leg in LEGS]
    assert {one.records for one in plan.values()} == {0}
    assert all("unverified" in plan[leg.name].basis for leg in LEGS if leg.who != "us")
    assert plan["transport"].expected_s == pytest.approx(3.0 * HOUR_S, rel=1e-3)
    assert all(one.low_s < one.expected_s < one.high_s for one in plan.values() if one.expected_s > 10.0)
    assert plan[REVIEW].who == "engineer"


def test_a_site_may_say_what_it_reckons_with_and_leave_out_sterilisation() -> None:
    hours = WorkshopHours(post_processing_h=6.0, sterilisation_h=0.0)
    made = Clock(ClockSettings(review_h=5.0, process={"guide-resin": hours}), History(), {"guide-resin": "vat"}, TARGETS_S)
    plan = {one.leg: one for one in made.plan(ABOUT, {})}
    assert "sterilisation" not in plan
    assert plan[REVIEW].expected_s == pytest.approx(5.0 * HOUR_S, rel=1e-3)
    assert plan["post-processing"].expected_s == pytest.approx(6.0 * HOUR_S, rel=1e-3)
    assert "site.toml" in plan["post-processing"].basis
    assert plan["inspection"].expected_s == pytest.approx(0.5 * HOUR_S, rel=1e-3)


def test_records_teach_the_cases_they_belong_to() -> None:
    implant = About("cranial-implant", "ti64-lpbf", "m-2")
    other = About("osteotomy-guide", "guide-resin", "sim-01")
    made = Clock(
        ClockSettings(),
        History(
            taught("post-processing", [20.0] * 200, implant) + taught(REVIEW, [9.0] * 200, implant) + taught(QUEUE, [1.0] * 99)
        ),
        {"guide-resin": "vat", "ti64-lpbf": "lpbf"},
        TARGETS_S,
    )
    median_h = {
        (name, leg): made.spreads(about)[leg].quantile_s(0.5) / HOUR_S
        for name, about in (("implant", implant), ("guide", ABOUT), ("other", other))
        for leg in ("post-processing", REVIEW, QUEUE)
    }
    assert median_h["implant", "post-processing"] == pytest.approx(20.0, rel=GRID)
    assert median_h["guide", "post-processing"] == pytest.approx(1.5, rel=GRID), "another process"
    assert median_h["guide", REVIEW] == pytest.approx(9.0, rel=GRID), "the same people"
    assert median_h["other", QUEUE] == pytest.approx(1.0, rel=GRID), "the same machine"
    assert median_h["implant", QUEUE] == pytest.approx(4.0, rel=GRID), "another machine"


def test_a_print_is_expected_by_its_estimate_and_by_what_others_took_over_theirs() -> None:
    estimate = Estimate(10.0 * HOUR_S, 8.0 * HOUR_S, 12.0 * HOUR_S)
    fresh = clock().spreads(ABOUT, estimate)[PRINT]
    assert fresh.quantile_s(0.5) == pytest.approx(10.0 * HOUR_S, rel=1e-3)
    assert fresh.quantile_s(0.975) / fresh.quantile_s(0.025) == pytest.approx(12.0 / 8.0, rel=0.02)
    slower = clock([Took(RATIO, PRINT, ABOUT, 1.3)] * 400).spreads(ABOUT, estimate)[PRINT]
    assert slower.quantile_s(0.5) == pytest.approx(13.0 * HOUR_S, rel=GRID)


def test_a_level_that_no_approval_reaches_is_told() -> None:
    made = Clock(
        ClockSettings(process={"guide-resin": WorkshopHours(sterilisation_h=700.0)}), History(), {"guide-resin": "vat"}, TARGETS_S
    )
    found = made.forecast(ABOUT, NOW + dt.timedelta(days=90), NOW, over=over("check"), since=NOW)
    assert (found.last_safe_approval, found.safe_possible) == (None, False)
    assert found.probability < 0.01


def test_a_delivered_case_was_on_time_or_was_not() -> None:
    ended = over(LEGS[-1].name)
    for minutes, chance in ((1, 1.0), (-1, 0.0)):
        due = NOW + dt.timedelta(minutes=minutes)
        assert clock().forecast(ABOUT, due, NOW + dt.timedelta(days=1), over=ended, since=NOW).probability == chance


def test_every_leg_but_the_gate_says_who_acts_and_what_ends_it() -> None:
    assert len({leg.ends for leg in LEGS}) == len(LEGS) == len(LEG)
    assert all(leg.factor > 1.0 and math.isfinite(leg.factor) for leg in LEGS)
