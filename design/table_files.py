"""Tables as CSV files: read strictly, and a site's own lines put before ours.

A file has one line of column names and then one line per entry; every column must be there, and no other. Units stand in the
names of the columns. A site's files lie in ``<site>/tables`` under the names that ours have in ``design``: a line with a key of
ours replaces it, any other is added.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from batchone.design.tables import Clearance, Drill, Line, Pin, SawBlade, Screw, Sleeve, Tables, Wire
from batchone.pipeline.errors import MachineError

FOLDER: Final = "tables"
_MAX_BYTES: Final = 1_000_000  # a table is a few pages of text
_FILES: Final[Mapping[str, tuple[str, type[Line]]]] = {
    "saw_blades": ("instruments/saw-blades.csv", SawBlade),
    "drills": ("instruments/drills.csv", Drill),
    "k_wires": ("instruments/k-wires.csv", Wire),
    "pins": ("instruments/pins.csv", Pin),
    "sleeves": ("instruments/sleeves.csv", Sleeve),
    "screws": ("instruments/screws.csv", Screw),
    "clearances": ("clearances.csv", Clearance),
}


@lru_cache(maxsize=1)
def shipped_tables() -> Tables:
    """The tables that come with batchone."""
    folder = resources.files("batchone.design")
    return Tables.model_validate(
        {
            field: read_table(folder.joinpath(file).read_text(encoding="utf-8"), model, file, origin="shipped")
            for field, (file, model) in _FILES.items()
        }
    )


def site_tables(site: Path) -> Tables:
    """The tables that count at a site: ours, where it has none of its own.

    Raises
    ------
    MachineError
        A file cannot be read, has a name that no table has, or a line is wrong; the message says file and line.
    """
    folder = site / FOLDER
    _refuse_unknown_files(folder)
    ours = shipped_tables()
    merged: dict[str, tuple[Line, ...]] = {}
    for field, (file, model) in _FILES.items():
        text = _text(folder / file, f"{FOLDER}/{file}")
        if text is not None:
            own = read_table(text, model, f"{FOLDER}/{file}", origin="site")
            merged[field] = tuple({line.key: line for line in (*getattr(ours, field), *own)}.values())
    return ours.model_copy(update=merged)


def read_table(text: str, model: type[Line], file: str, *, origin: str) -> tuple[Line, ...]:
    """The lines of a table; ``file`` is its name in messages.

    Raises
    ------
    MachineError
        A column is unknown or missing, a key is given twice, or a cell is not what its column may hold.
    """
    rows = csv.reader(text.removeprefix("\ufeff").splitlines(), strict=True)
    columns = [*(field for field in model.model_fields if field not in ("source", "origin")), "source"]
    lines: dict[tuple[str, ...], Line] = {}
    names: list[str] | None = None
    try:
        for row in rows:
            cells = [cell.strip() for cell in row]
            where = f"{file}:{rows.line_num}"
            if names is None:
                names = _names(cells, columns, where)
            elif any(cells):
                line = _line(dict(_pairs(names, cells, where)), model, where, origin)
                if line.key in lines:
                    raise _fault(where, f"{' '.join(line.key)} is there twice")
                lines[line.key] = line
    except csv.Error as error:
        raise _fault(f"{file}:{rows.line_num}", str(error)) from error
    if names is None:
        raise _fault(f"{file}:1", f"is empty; its first line must be {','.join(columns)}")
    return tuple(lines.values())


def _names(cells: list[str], columns: list[str], where: str) -> list[str]:
    """The columns as they stand in the file."""
    unknown = [cell for cell in cells if cell not in columns]
    missing = [column for column in columns if column not in cells]
    if unknown or missing or len(cells) != len(columns):
        told = [f"column {name!r} is unknown{_unit_hint(name, columns)}" for name in unknown]
        told += [f"column {name} is missing" for name in missing]
        raise _fault(where, "; ".join(told or ["a column is there twice"]) + f"; columns are {', '.join(columns)}")
    return cells


def _unit_hint(name: str, columns: list[str]) -> str:
    return f" (its unit is missing: {name}_mm)" if f"{name}_mm" in columns else ""


def _pairs(names: list[str], cells: list[str], where: str) -> list[tuple[str, str]]:
    if len(cells) != len(names):
        raise _fault(where, f"has {len(cells)} cells, must be {len(names)}")
    return list(zip(names, cells, strict=True))


def _line(cells: dict[str, str], model: type[Line], where: str, origin: str) -> Line:
    try:
        if unprintable := [name for name, cell in cells.items() if not cell.isprintable()]:
            raise _fault(where, f"{', '.join(unprintable)}: only printable characters are allowed")
        return model.model_validate_strings(cells | {"origin": origin})
    except ValidationError as error:
        raise _fault(where, "; ".join(_told(fault) for fault in error.errors())) from error


def _told(fault: Any) -> str:
    column = f"{fault['loc'][0]}: " if fault["loc"] else ""
    given = f" (given {fault['input']!r})" if isinstance(fault["input"], str) else ""
    return f"{column}{fault['msg'].removeprefix('Value error, ')}{given}"


def _fault(where: str, text: str) -> MachineError:
    return MachineError(f"{where}: {text}", hint="correct the table; docs/contract.md says what it holds")


def _refuse_unknown_files(folder: Path) -> None:
    known = {file for file, _ in _FILES.values()}
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix.lower() == ".csv"}
    if unknown := sorted(found - known):
        raise MachineError(
            f"{FOLDER}/{unknown[0]} is no table; tables are {', '.join(sorted(known))}",
            hint="rename or remove the file in the site's folder",
        )


def _text(path: Path, name: str) -> str | None:
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise MachineError(f"{name} is larger than {_MAX_BYTES} bytes, at most {_MAX_BYTES} bytes", hint="is this a table?")
        return data.decode()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise MachineError(f"{name} cannot be read: {error.strerror}", hint="correct the site's folder") from error
    except UnicodeDecodeError as error:
        raise MachineError(f"{name} is not UTF-8: {error}", hint="save it as CSV in UTF-8") from error
