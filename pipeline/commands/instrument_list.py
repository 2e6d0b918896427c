"""The tables of instruments and clearances as a person reads them: a line each, with its source and whose it is."""

from __future__ import annotations

from batchone.design.tables import Clearance, Line, Tables


def instrument_lines(tables: Tables) -> list[str]:
    """Every line of every table, in words."""
    found = []
    for table, lines in tables:
        found.append(table.replace("_", "-"))
        found += [f"  {_words(line)}  [{line.origin}; {line.source}]" for line in lines]
    return found


def _words(line: Line) -> str:
    basis = f" {line.basis}" if isinstance(line, Clearance) else ""
    numbers = ", ".join(f"{name.removesuffix('_mm')} {_number(value)}" for name, value in line if name.endswith("_mm"))
    return f"{' '.join(line.key)}: {numbers} mm{basis}"


def _number(value: float | tuple[float, ...]) -> str:
    return " ".join(f"{one:g}" for one in value) if isinstance(value, tuple) else f"{value:g}"
