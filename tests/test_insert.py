"""Metal inserts in printed sleeves: how wide the sleeve is drilled, and what does not fit."""

from __future__ import annotations

import pytest

from batchone.design.guide.insert import Lead, lead
from batchone.design.table_files import shipped_tables
from batchone.design.tables import Sleeve
from batchone.pipeline.errors import OrderError
from batchone.slicer.profiles import load_process

PROCESS, TABLES = load_process("pa12-sls"), shipped_tables()


def insert(inner_mm: float = 2.6, length_mm: float = 15.0) -> Sleeve:
    return Sleeve(name="steel", inner_mm=inner_mm, outer_mm=5.0, length_mm=length_mm, source="test")


def led(found: Sleeve | None, *, slips: bool = False, sleeve_mm: float = 15.0) -> Lead:
    return lead(2.5, "drill-hole", PROCESS, TABLES, insert=found, slips=slips, sleeve_mm=sleeve_mm)


def test_a_sleeve_is_as_wide_as_what_runs_in_it() -> None:
    assert led(None).bore_mm == pytest.approx(2.8)  # drill 2.5, 0.2 clearance across, 0.1 shrink of PA12
    assert led(insert()).bore_mm == pytest.approx(5.2)  # insert 5.0, pressed: 0.05 a side, 0.1 shrink
    assert led(insert(), slips=True).bore_mm == pytest.approx(5.3)  # 0.1 a side
    assert led(insert(), slips=True).hole.feature == "insert-slip"


@pytest.mark.parametrize(("inner_mm", "fits"), [(2.5, False), (2.51, True), (2.89, True), (2.91, False)])
def test_an_instrument_passes_its_insert_and_is_not_loose_in_it(inner_mm: float, fits: bool) -> None:
    if fits:
        assert led(insert(inner_mm)).insert is not None
    else:
        with pytest.raises(OrderError, match=r"sleeve steel is .* mm wide inside for an instrument of 2\.5 mm"):
            led(insert(inner_mm))


def test_an_insert_longer_than_its_sleeve_is_refused() -> None:
    assert led(insert(length_mm=15.0)).insert is not None
    with pytest.raises(OrderError, match=r"sleeve steel is 15\.1 mm long, sleeve_mm is 15 mm"):
        led(insert(length_mm=15.1))
