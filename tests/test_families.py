"""Every device family keeps the same promises."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import resources
from importlib.metadata import EntryPoint

import pytest
from pydantic import ValidationError

from batchone.design import families
from batchone.design.families import ALL, load_families, merged_families
from batchone.design.family import Family
from batchone.pipeline.errors import MachineError, OrderError
from batchone.pipeline.order import Parameters, parse_order

SOURCE = re.compile(r"unverified|practice|guides?\b|K\d{6}|\b(19|20)\d\d\b|project default")
UNITS = ("_mm", "_mm2", "_mm3", "_deg", "_hu", "_s")


def order_for(family: Family, **parameters: object) -> dict[str, object]:
    return {
        "case": "test-1", "device": family.name, "side": "left", "process": "pa12-sls", "machine": "sim-01",
        "due": "2026-11-24T08:00:00Z", "parameters": parameters,
    }  # fmt: skip


def models() -> dict[str, type[Parameters]]:
    return {name: family.parameters for name, family in load_families().items()}


def parse(family: Family, **parameters: object) -> Parameters:
    import datetime as dt

    data = order_for(family, **parameters) | {"due": dt.datetime(2026, 11, 24, tzinfo=dt.UTC)}
    return parse_order(data, models()).parameters


@pytest.mark.parametrize("family", load_families().values(), ids=lambda family: family.name)
class TestEveryFamily:
    def test_defaults_are_valid(self, family: Family) -> None:
        assert parse(family) == family.parameters()

    def test_an_unknown_parameter_is_refused_by_name(self, family: Family) -> None:
        with pytest.raises(OrderError, match=r"parameters\.wibble_mm: unknown key"):
            parse(family, wibble_mm=1.0)

    def test_each_limited_parameter_takes_its_limits_and_refuses_beyond_them_by_name(self, family: Family) -> None:
        schema = family.parameters.model_json_schema()["properties"]
        limited = {name: entry for name, entry in schema.items() if "minimum" in entry}
        assert limited
        for name, entry in limited.items():
            step = 1 if entry["type"] == "integer" else 0.001
            for value in (entry["minimum"] - step, entry["maximum"] + step):
                with pytest.raises(OrderError, match=rf"parameters\.{name}: "):
                    parse(family, **{name: value})

    def test_every_number_has_limits_a_unit_and_a_source(self, family: Family) -> None:
        for name, entry in family.parameters.model_json_schema()["properties"].items():
            assert entry.get("description"), name
            if entry.get("type") in ("number", "integer"):
                assert {"minimum", "maximum", "default"} <= set(entry), name
                assert SOURCE.search(entry["description"]), f"{name}: no source in {entry['description']!r}"
            if entry.get("type") == "number":
                assert name.endswith(UNITS), name

    def test_parameters_are_frozen(self, family: Family) -> None:
        parameters = family.parameters()
        with pytest.raises(ValidationError):
            setattr(parameters, next(iter(family.parameters.model_fields)), None)

    def test_each_limit_of_its_file_has_a_source_and_a_possible_range(self, family: Family) -> None:
        limits = family.limits
        assert limits.protocol.source
        assert limits.protocol.warn_slice_spacing_mm <= limits.protocol.max_slice_spacing_mm
        for name, limit in (limits.envelope | limits.gates).items():
            assert limit.source, name
            assert limit.low is not None or limit.high is not None, name
            assert limit.low is None or limit.high is None or limit.low <= limit.high, name

    def test_it_is_found_under_its_name(self, family: Family) -> None:
        assert load_families()[family.name] is family


def test_every_file_of_the_folder_is_in_all() -> None:
    folder = resources.files("batchone.design.families")
    modules = {entry.name.removesuffix(".py") for entry in folder.iterdir() if entry.name.endswith(".py")} - {"__init__"}
    limits = {entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")}
    assert modules == {family.name.replace("-", "_") for family in ALL}
    assert limits == modules


def test_an_installed_family_joins_the_shipped_ones() -> None:
    other = Family("other", "Other", Parameters, (), ALL[0].propose, ALL[0].build, ())
    assert merged_families(ALL, (("other", other), (ALL[0].name, ALL[0])))["other"] is other


def test_two_families_of_one_name_are_refused() -> None:
    impostor = Family(ALL[0].name, "Other", Parameters, (), ALL[0].propose, ALL[0].build, ())
    with pytest.raises(MachineError, match=f"{ALL[0].name} is declared by 2 packages"):
        merged_families(ALL, ((ALL[0].name, impostor),))


def test_an_entry_point_that_is_no_family_of_its_name_is_refused() -> None:
    with pytest.raises(MachineError, match="must give a Family named other"):
        merged_families(ALL, (("other", object()),))
    with pytest.raises(MachineError, match="must give a Family named other"):
        merged_families(ALL, (("other", ALL[0]),))


def test_an_entry_point_that_leads_nowhere_is_refused_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("no_such_package:OTHER", "batchone.design.families:OTHER"):
        broken = EntryPoint("other", value, families.GROUP)
        monkeypatch.setattr(families, "entry_points", lambda group, entry=broken: (entry,))
        with pytest.raises(MachineError, match=f"entry point batchone.devices:other leads to {value}, which cannot be loaded"):
            families.load_families.__wrapped__()


def test_a_family_without_its_file_of_limits_is_refused_with_both_names() -> None:
    for package in ("batchone.design", "no_such_package"):
        other = Family("other-one", "Other", Parameters, (), ALL[0].propose, ALL[0].build, (), package)
        with pytest.raises(MachineError, match=rf"other-one: its limits other_one.toml of package {package} cannot be read"):
            _ = other.limits


def test_listing_the_families_loads_nothing_heavy() -> None:
    code = (
        "import sys\n"
        "from batchone.design.families import load_families\n"
        "[family.limits for family in load_families().values()]\n"
        "heavy = {'cadquery', 'vtk', 'SimpleITK', 'numba', 'trimesh', 'scipy', 'manifold3d', 'skimage', 'embreex'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
