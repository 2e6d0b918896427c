"""Instruments and clearances: read strictly, a site's own lines first, each number with its source."""

from __future__ import annotations

import datetime as dt
import json
from importlib import resources
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner

from batchone.design.clearances import bore_mm, clearance, slot_mm
from batchone.design.table_files import read_table, shipped_tables, site_tables
from batchone.design.tables import Clearance, Drill, SawBlade, Screw, Sleeve, instrument, used_findings
from batchone.design.theatre import theatre
from batchone.pipeline.cli import app
from batchone.pipeline.errors import MachineError, OrderError
from batchone.pipeline.order import Instruments, Order, order_text, parse_order
from batchone.slicer.profiles import load_process, process_names

FEATURES = ("bone-contact", "saw-slot", "drill-hole", "pin-hole", "screw-shaft", "insert-press", "insert-slip")
DRILLS = "name,diameter_mm,source\n"
CLEARANCES = "feature,process,material,clearance_mm,basis,shrink_mm,source\n"


def order(**instruments: object) -> Order:
    due = dt.datetime(2026, 11, 24, 8, tzinfo=dt.UTC)
    data = {"case": "t-1", "device": "anatomical-model", "side": "left", "process": "pa12-sls", "machine": "sim-01", "due": due}
    from batchone.design.families import load_families

    models = {name: family.parameters for name, family in load_families().items()}
    return parse_order(data | {"instruments": instruments}, models)


def drills(text: str) -> tuple[object, ...]:
    return read_table(DRILLS + text, Drill, "drills.csv", origin="site")


def one_clearance(basis: str = "per-side", clearance_mm: float = 0.25, shrink_mm: float = 0.0) -> Clearance:
    return Clearance(
        feature="drill-hole",
        process="pa12-sls",
        material="PA12",
        clearance_mm=clearance_mm,
        basis=basis,
        shrink_mm=shrink_mm,
        source="test",
    )


def write(site: Path, file: str, text: str) -> Path:
    path = site / "tables" / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


# the shipped tables


def test_every_shipped_process_has_a_clearance_for_every_feature() -> None:
    for name in process_names():
        for feature in FEATURES:
            found = clearance(feature, load_process(name), shipped_tables())
            assert found.source
            assert found.origin == "shipped"


def test_no_shipped_clearance_is_for_a_process_or_material_that_is_not_shipped() -> None:
    known = {(load_process(name).name, load_process(name).material) for name in process_names()}
    assert {(line.process, line.material) for line in shipped_tables().clearances} == known


def test_each_shipped_table_has_lines_and_each_line_says_where_its_numbers_come_from() -> None:
    for table, lines in shipped_tables():
        assert lines, table
        assert all(line.source and line.origin == "shipped" for line in lines), table


# reading


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name,diameter,source\nd,2,x\n", r"drills\.csv:1: column 'diameter' is unknown \(its unit is missing: diameter_mm\)"),
        ("name,diameter_mm,source,colour\nd,2,x,red\n", r"drills\.csv:1: column 'colour' is unknown"),
        ("name,diameter_mm\nd,2\n", r"drills\.csv:1: column source is missing"),
        ("name,diameter_mm,source,source\nd,2,x,y\n", r"drills\.csv:1: a column is there twice"),
        (DRILLS + "a,2,x\nd,0,x\n", r"drills\.csv:3: diameter_mm: .*greater than 0 \(given '0'\)"),
        (DRILLS + "d,-1,x\n", r"drills\.csv:2: diameter_mm: .*greater than 0"),
        (DRILLS + "d,31,x\n", r"drills\.csv:2: diameter_mm: .*less than or equal to 30"),
        (DRILLS + "d,nan,x\n", r"drills\.csv:2: diameter_mm: .*finite"),
        (DRILLS + "d,two,x\n", r"drills\.csv:2: diameter_mm: .*number"),
        (DRILLS + "d,2,\n", r"drills\.csv:2: source: "),
        (DRILLS + ",2,x\n", r"drills\.csv:2: name: "),
        (DRILLS + "d,2,x\ne,3,x\nd,4,x\n", r"drills\.csv:4: d is there twice"),
        (DRILLS + "d,2\n", r"drills\.csv:2: has 2 cells, must be 3"),
        (DRILLS + 'd,2,"x\n', r"drills\.csv:2: "),
        (DRILLS + "d,2,x\x1b[31m\n", r"drills\.csv:2: source: only printable"),
        ("", r"drills\.csv:1: is empty; its first line must be name,diameter_mm,source"),
    ],
)
def test_a_faulty_table_is_refused_with_file_and_line(text: str, told: str) -> None:
    with pytest.raises(MachineError, match=told):
        read_table(text, Drill, "drills.csv", origin="site")


def test_columns_may_stand_in_any_order_and_empty_lines_and_a_byte_order_mark_do_not_matter() -> None:
    text = "\ufeffsource,diameter_mm,name\r\n\r\nx, 2.5 ,d\r\n"
    assert read_table(text, Drill, "drills.csv", origin="site") == (Drill(name="d", diameter_mm=2.5, source="x", origin="site"),)


def test_what_a_table_may_hold_just_inside_its_limits() -> None:
    assert [line.key for line in drills("a,30,x\nb,0.001,x\n")] == [("a",), ("b",)]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("model", "cells", "told"),
    [
        (SawBlade, {"thickness_mm": "0.6", "kerf_mm": "0.59", "width_mm": "10"}, "kerf_mm is 0.59 mm, at least .* 0.6 mm"),
        (Sleeve, {"inner_mm": "4", "outer_mm": "4", "length_mm": "10"}, "inner_mm is 4 mm, less than"),
        (Screw, {"diameter_mm": "4", "core_mm": "4", "lengths_mm": "10"}, "core_mm is 4 mm, less than"),
        (Screw, {"diameter_mm": "4", "core_mm": "3", "lengths_mm": "10 20 20"}, "lengths_mm must rise"),
        (Screw, {"diameter_mm": "4", "core_mm": "3", "lengths_mm": "10 -20"}, "lengths_mm: .*greater than 0"),
        (Screw, {"diameter_mm": "4", "core_mm": "3", "lengths_mm": ""}, "lengths_mm: .*at least 1"),
    ],
)
def test_numbers_that_contradict_each_other_are_refused(model: type[Drill], cells: dict[str, str], told: str) -> None:
    names, values = ",".join(cells), ",".join(cells.values())
    with pytest.raises(MachineError, match=rf"t\.csv:2: {told}"):
        read_table(f"name,{names},source\na,{values},x\n", model, "t.csv", origin="site")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("keyhole,pa12-sls,PA12,0.1,diametral,0,x", "feature: "),
        ("pin-hole,pa12-sls,PA12,0.1,radial,0,x", "basis: "),
        ("pin-hole,pa12-sls,PA12,-0.1,diametral,0,x", "clearance_mm: .*greater than or equal to 0"),
        ("pin-hole,pa12-sls,PA12,2.01,diametral,0,x", "clearance_mm: .*less than or equal to 2"),
        ("pin-hole,pa12-sls,PA12,0.1,diametral,-0.1,x", "shrink_mm: "),
        ("bone-contact,pa12-sls,PA12,0.1,diametral,0,x", "bone-contact is one face"),
        ("bone-contact,pa12-sls,PA12,0.1,per-side,0.1,x", "bone-contact is one face"),
    ],
)
def test_a_faulty_clearance_is_refused_with_file_and_line(line: str, told: str) -> None:
    with pytest.raises(MachineError, match=rf"clearances\.csv:2: {told}"):
        read_table(CLEARANCES + line + "\n", Clearance, "clearances.csv", origin="site")


# a site's own tables


def test_a_site_without_tables_has_ours(tmp_path: Path) -> None:
    assert site_tables(tmp_path / "nowhere") == shipped_tables()


def test_a_line_of_the_site_with_our_key_replaces_ours_and_a_new_one_is_added(tmp_path: Path) -> None:
    write(tmp_path, "instruments/drills.csv", DRILLS + "drill-3.2,3.25,measured\nours,3.5,measured\n")
    write(tmp_path, "clearances.csv", CLEARANCES + "pin-hole,pa12-sls,PA12,0.17,diametral,0.08,coupon 12\n")
    tables, ours = site_tables(tmp_path), shipped_tables()
    assert [line.name for line in tables.drills] == [*(line.name for line in ours.drills), "ours"]
    changed = instrument(tables.drills, "drill-3.2", "drill")
    assert (changed.diameter_mm, changed.origin, changed.source) == (3.25, "site", "measured")
    assert instrument(tables.drills, "drill-2.5", "drill") == instrument(ours.drills, "drill-2.5", "drill")
    found = clearance("pin-hole", load_process("pa12-sls"), tables)
    assert (found.diametral_mm, found.shrink_mm, found.origin) == (0.17, 0.08, "site")
    assert len(tables.clearances) == len(ours.clearances)
    assert tables.screws == ours.screws


@pytest.mark.parametrize("file", ["instruments/drill.csv", "drills.csv", "instruments/DRILLS.CSV"])
def test_a_file_that_no_table_has_is_refused_by_name(tmp_path: Path, file: str) -> None:
    write(tmp_path, file, DRILLS)
    write(tmp_path, "README.md", "other files may lie beside the tables")
    with pytest.raises(MachineError, match=f"tables/{file} is no table; tables are clearances.csv, instruments/drills.csv"):
        site_tables(tmp_path)


def test_a_fault_in_a_table_of_the_site_names_its_file_and_line(tmp_path: Path) -> None:
    write(tmp_path, "instruments/pins.csv", DRILLS + "p,0,x\n")
    with pytest.raises(MachineError, match=r"^tables/instruments/pins\.csv:2: diameter_mm"):
        site_tables(tmp_path)


@pytest.mark.parametrize(("data", "told"), [(b"\xff\xfe", "is not UTF-8"), (b"x" * 1_000_001, "is larger than 1000000 bytes")])
def test_a_file_that_is_no_text_or_too_large_is_refused(tmp_path: Path, data: bytes, told: str) -> None:
    write(tmp_path, "clearances.csv", "").write_bytes(data)
    with pytest.raises(MachineError, match=rf"tables/clearances\.csv {told}"):
        site_tables(tmp_path)


# what is modelled


def test_per_side_and_diametral_say_the_same_in_two_ways() -> None:
    assert (one_clearance("per-side").per_side_mm, one_clearance("per-side").diametral_mm) == (0.25, 0.5)
    assert (one_clearance("diametral").per_side_mm, one_clearance("diametral").diametral_mm) == (0.125, 0.25)


def test_a_bore_is_nominal_plus_clearance_plus_shrink() -> None:
    assert bore_mm(3.2, one_clearance("diametral", 0.2, 0.1)) == pytest.approx(3.5, abs=1e-12)
    assert bore_mm(3.2, one_clearance("per-side", 0.2, 0.1)) == pytest.approx(3.7, abs=1e-12)


def test_a_slot_is_the_blade_plus_its_clearance_on_both_sides_and_the_kerf_is_not_in_it() -> None:
    blade = SawBlade(name="b", thickness_mm=0.2, kerf_mm=0.9, width_mm=10.0, source="test")
    assert slot_mm(blade, one_clearance("per-side", 0.25)) == pytest.approx(0.7, abs=1e-12)  # as the field's planner has it


def test_a_missing_clearance_says_which_line_to_add_where() -> None:
    wood = load_process("pa12-sls").model_copy(update={"name": "oak-cnc", "material": "oak"})
    with pytest.raises(OrderError, match=r"no clearance for saw-slot by oak-cnc \(oak\); known for .*pa12-sls") as raised:
        clearance("saw-slot", wood, shipped_tables())
    assert "saw-slot,oak-cnc,oak" in raised.value.hint
    assert "tables/clearances.csv" in raised.value.hint


def test_another_material_of_the_same_process_is_not_taken_for_the_one_in_the_table() -> None:
    with pytest.raises(OrderError, match=r"pa12-sls \(PA11\)"):
        clearance("saw-slot", load_process("pa12-sls").model_copy(update={"material": "PA11"}), shipped_tables())


# the order


def test_instruments_are_found_by_name() -> None:
    found = theatre(order(saw_blade="blade-0.6", drill="drill-3.2", sleeve="sleeve-3.2", screw="pedicle-6.0"), shipped_tables())
    assert found.saw_blade is not None
    assert (found.saw_blade.thickness_mm, found.saw_blade.kerf_mm) == (0.6, 0.8)
    assert found.drill == instrument(shipped_tables().drills, "drill-3.2", "drill")
    assert found.screw is not None
    assert 30.0 in found.screw.lengths_mm
    assert found.sleeve is not None
    assert (found.wire, found.pin) == (None, None)


def test_instruments_may_be_given_by_their_number_alone() -> None:
    found = theatre(order(saw_blade_thickness_mm=0.5, drill_mm=3.1, wire_mm=1.7, pin_mm=3.3), shipped_tables())
    assert found.saw_blade is not None
    assert (found.saw_blade.thickness_mm, found.saw_blade.kerf_mm, found.saw_blade.width_mm) == (0.5, 0.5, None)
    assert "unverified" in found.saw_blade.source
    sizes = [tool.diameter_mm for tool in (found.drill, found.wire, found.pin) if tool is not None]
    assert sizes == [3.1, 1.7, 3.3]
    assert {tool.origin for tool in (found.saw_blade, found.drill, found.wire, found.pin) if tool is not None} == {"order"}


@pytest.mark.parametrize("key", ["saw_blade", "drill", "wire", "pin", "sleeve", "screw"])
def test_an_instrument_that_is_in_no_table_is_refused_with_those_that_are(key: str) -> None:
    with pytest.raises(OrderError, match=rf"^{key} is 'hammer'; known: [a-z]+-\d"):
        theatre(order(**{key: "hammer"}), shipped_tables())


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"drill": "drill-3.2", "drill_mm": 3.2}, "instruments: .*give drill or drill_mm, not both"),
        ({"saw_blade": "blade-0.6", "saw_blade_thickness_mm": 0.6}, "give saw_blade or saw_blade_thickness_mm, not both"),
        ({"wire": "wire-1.6", "wire_mm": 1.6}, "give wire or wire_mm, not both"),
        ({"pin": "pin-3.2", "pin_mm": 3.2}, "give pin or pin_mm, not both"),
        ({"saw": "blade-0.6"}, r"instruments\.saw: unknown key"),
        ({"wire_mm": 0.59}, r"instruments\.wire_mm"),
        ({"wire_mm": 4.01}, r"instruments\.wire_mm"),
        ({"pin_mm": 0.99}, r"instruments\.pin_mm"),
        ({"pin_mm": 8.01}, r"instruments\.pin_mm"),
        ({"saw_blade_thickness_mm": 0.09}, r"instruments\.saw_blade_thickness_mm"),
        ({"saw_blade_thickness_mm": 3.01}, r"instruments\.saw_blade_thickness_mm"),
    ],
)
def test_instruments_that_cannot_be_meant_are_refused_by_name(given: dict[str, object], told: str) -> None:
    with pytest.raises(OrderError, match=told):
        order(**given)


def test_numbers_just_inside_their_limits_are_taken() -> None:
    for given in ({"wire_mm": 0.6, "pin_mm": 1.0, "saw_blade_thickness_mm": 0.1}, {"wire_mm": 4.0, "pin_mm": 8.0}):
        assert order(**given).instruments.wire_mm == given["wire_mm"]


def test_an_order_with_instruments_reads_back_as_it_was() -> None:
    import tomllib

    text = order_text(order(saw_blade="blade-0.6", wire_mm=1.6))
    assert tomllib.loads(text)["instruments"] == {"saw_blade": "blade-0.6", "wire_mm": 1.6}
    assert Instruments.model_validate(tomllib.loads(text)["instruments"]) == order(saw_blade="blade-0.6", wire_mm=1.6).instruments


# what was used


def test_what_was_used_is_reported_with_numbers_source_and_whose_table_it_was(tmp_path: Path) -> None:
    write(tmp_path, "instruments/drills.csv", DRILLS + "drill-3.2,3.25,measured here\n")
    tables = site_tables(tmp_path)
    drill = instrument(tables.drills, "drill-3.2", "drill")
    hole = clearance("drill-hole", load_process("pa12-sls"), tables)
    found = used_findings(drill, hole)
    assert [(f.what, f.value, f.unit) for f in found] == [
        ("drill drill-3.2: diameter (table of the site)", 3.25, "mm"),
        ("clearance drill-hole pa12-sls PA12: clearance, diametral (shipped table)", 0.2, "mm"),
        ("clearance drill-hole pa12-sls PA12: shrink (shipped table)", 0.1, "mm"),
    ]
    assert found[0].source == "measured here"
    assert {(f.verdict, f.limit) for f in found} == {("pass", "for information")}


def test_every_number_of_a_table_is_in_the_text_that_stages_are_judged_anew_by(tmp_path: Path) -> None:
    ours = shipped_tables()
    write(tmp_path, "instruments/screws.csv", "name,diameter_mm,core_mm,lengths_mm,source\npedicle-6.0,6,4.4,25 31,x\n")
    assert site_tables(tmp_path / "nowhere").model_dump_json() == ours.model_dump_json()
    assert json.loads(site_tables(tmp_path).model_dump_json())["screws"][5]["lengths_mm"] == [25.0, 31.0]


# on the command line


def test_the_list_of_instruments_is_that_of_the_site_and_follows_its_schema(tmp_path: Path) -> None:
    write(tmp_path, "instruments/drills.csv", DRILLS + "ours,3.5,caliper\n")
    asked = ["devices", "--instruments", "--site", str(tmp_path)]
    tree = json.loads(CliRunner().invoke(app, [*asked, "--json"]).stdout)
    schema = json.loads(resources.files("batchone.pipeline").joinpath("schemas/devices.schema.json").read_text())
    jsonschema.validate(tree, schema)
    assert tree["drills"][-1] == {"name": "ours", "diameter_mm": 3.5, "source": "caliper", "origin": "site"}
    lines = CliRunner().invoke(app, asked).stdout.splitlines()
    assert "  ours: diameter 3.5 mm  [site; caliper]" in lines
    assert any(
        line.startswith("  saw-slot guide-resin guide resin: clearance 0.25, shrink 0 mm per-side  [shipped; ") for line in lines
    )


def test_the_list_of_instruments_is_not_that_of_one_device() -> None:
    assert isinstance(CliRunner().invoke(app, ["devices", "anatomical-model", "--instruments"]).exception, OrderError)
