"""The page for those who operate a site: its units parse, and name commands and options that are there."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import typer

from batchone.factory.settings import SETTINGS, read_cell_settings
from batchone.pipeline.cli import app
from batchone.slicer.profiles import load_process

PAGE = Path(__file__).parents[1] / "docs" / "operations.md"
pytestmark = pytest.mark.skipif(not PAGE.is_file(), reason="the documents are not beside the tests")


def _blocks(kind: str) -> list[str]:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [text for found, text in blocks if found == kind]


def _commands() -> dict[str, set[str]]:
    """The options of every command of the command line."""
    group = typer.main.get_command(app)
    return {name: {o for p in command.params for o in p.opts} for name, command in group.commands.items()}  # type: ignore[attr-defined]


def _used() -> list[list[str]]:
    """Every call of the command line on the page, in words."""
    text = "\n".join((*_blocks("ini"), *_blocks(""))).replace("%%", "%")
    return [shlex.split(line.replace("'", "")) for line in re.findall(r"(?:^|bin/)batchone (.*)$", text, re.MULTILINE)]


def test_every_command_of_the_page_is_there_with_its_options() -> None:
    known, used = _commands(), _used()
    assert {words[0] for words in used} == {"serve", "worker", "cell", "telemetry", "backup", "restore", "audit", "doctor"}
    for words in used:
        assert {word for word in words if word.startswith("--")} <= known[words[0]], words


def test_every_unit_parses_and_says_what_starts_it() -> None:
    units = []
    for block in _blocks("ini"):
        unit = configparser.ConfigParser(strict=False, interpolation=None)
        unit.optionxform = str  # type: ignore[assignment,method-assign]
        unit.read_string(block)
        units.append(unit)
    assert [("Service" in unit, "Timer" in unit) for unit in units] == [(True, False)] * 3 + [(False, True)] + [(True, False)] * 2
    for unit in [*units[:3], *units[4:]]:
        assert unit["Service"]["User"] == "batchone"
        assert unit["Service"]["UMask"] == "0077"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_itself_finds_no_fault_in_the_units(tmp_path: Path) -> None:
    names = ("batchone-server.service", "batchone-worker@.service", "batchone-backup.service", "batchone-backup.timer")
    names += ("batchone-cell.service", "batchone-telemetry.service")
    for name, block in zip(names, _blocks("ini"), strict=True):
        (tmp_path / name).write_text(block.replace("/opt/batchone/bin/batchone", "/bin/true"))
    asked = [tmp_path / name.replace("@", "@1") for name in names]
    (tmp_path / "batchone-worker@1.service").symlink_to(tmp_path / "batchone-worker@.service")
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *asked], capture_output=True, text=True, timeout=60)
    assert not [line for line in done.stderr.splitlines() if str(tmp_path) in line or "batchone" in line], done.stderr


def test_the_settings_of_the_page_are_taken(tmp_path: Path) -> None:
    site, cell, served, machine = _blocks("toml")
    assert set(tomllib.loads(site)) == {"engine", "retention"}
    (tmp_path / SETTINGS).write_text(cell)
    known = read_cell_settings(tmp_path)
    wanted = load_process("ti64-lpbf").conditions.lot_keys
    assert set(known.lots[0].facts) == set(wanted)
    (tmp_path / SETTINGS).write_text(cell.replace('driver = "folder"', 'driver = "opcua"') + machine)
    found = read_cell_settings(tmp_path)
    assert found.opcua is not None
    assert found.opcua.machine == "lpbf-1"
    alone = "".join(line for line in cell.splitlines(True) if not line.startswith("report ="))
    (tmp_path / SETTINGS).write_text(alone + served)
    over = read_cell_settings(tmp_path)
    assert over.site is not None
    assert over.site.url == "https://site.example:8443"
