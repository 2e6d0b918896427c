"""Readings of a machine as one Parquet file for each build, and their summary."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final

from batchone.pipeline.disk import disk, flush_folder
from batchone.pipeline.telemetry import Row

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from batchone.factory.drivers.driver import Reading

TELEMETRY: Final = "telemetry.parquet"
_ROWS: Final = 20_000  # numerical: rows that wait in memory before they are compressed together


@dataclass(frozen=True, slots=True)
class Summary:
    """One value over the layers of a build: how many readings, least, mean, greatest."""

    name: str
    readings: int
    least: float
    mean: float
    greatest: float


class TelemetryFile:
    """Writes readings as they come; every reading of one build has the same values.

    Parameters
    ----------
    path
        The file; what stood there is replaced when it is closed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: list[Reading] = []
        self._names: tuple[str, ...] = ()
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> TelemetryFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._flush()
        if self._writer is not None:
            self._writer.close()

    def add(self, readings: Sequence[Reading]) -> None:
        """Add some readings, in the order of time."""
        self._rows += readings
        if len(self._rows) >= _ROWS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if not self._rows:
            return
        if self._writer is None:
            self._names = tuple(self._rows[0].values)
            self._writer = pq.ParquetWriter(self._path, _schema(self._names), compression="zstd")
        rows = self._rows
        columns = [[row.time_s for row in rows], [row.state for row in rows], [row.layer for row in rows]]
        columns += [[row.values[name] for row in rows] for name in self._names]
        self._writer.write_table(pa.table(columns, schema=self._writer.schema))
        self._rows = []


def write_part(path: Path, names: Sequence[str], rows: Sequence[Row]) -> None:
    """Some samples of a build as one file, which appears whole; what stood there is replaced.

    Columns are ``number``, ``heard_s`` (seconds since 1970), ``time_s`` (of the machine), ``state``, ``layer``, and the values.

    Raises
    ------
    MachineError
        The disk is full.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema(names)
    schema = pa.schema([("number", pa.int32()), ("heard_s", pa.float64()), *schema])
    columns = [[row.number for row in rows], [row.heard_s for row in rows], [row.time_s for row in rows]]
    columns += [[row.state for row in rows], [row.layer for row in rows], *zip(*(row.numbers for row in rows), strict=True)]
    part = path.with_name(f".{path.name}.part")
    with disk():
        path.parent.mkdir(parents=True, exist_ok=True)
        split = [name for name in schema.names if pa.types.is_float64(schema.field(name).type)]
        pq.write_table(
            pa.table(columns, schema=schema), part, compression="zstd", use_dictionary=["state"], use_byte_stream_split=split
        )  # bytes of one place together: their high ones hardly change
        with part.open("rb") as stream:
            os.fsync(stream.fileno())
        part.replace(path)
        flush_folder(path.parent)


def summaries(path: Path) -> tuple[Summary, ...]:
    """What a telemetry file says of each value while layers were made; nothing where there is no file or no layer."""
    if not path.is_file():
        return ()
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(path, filters=[("layer", ">=", 0)])
    if not len(table):
        return ()
    found = []
    for name in table.column_names[3:]:
        column = table.column(name)
        ends = pc.min_max(column)
        found.append(
            Summary(name, len(column), float(ends["min"].as_py()), float(pc.mean(column).as_py()), float(ends["max"].as_py()))
        )
    return tuple(found)


def _schema(names: Sequence[str]) -> pa.Schema:
    import pyarrow as pa

    fixed = [("time_s", pa.float64()), ("state", pa.dictionary(pa.int8(), pa.string())), ("layer", pa.int32())]
    return pa.schema(fixed + [(name, pa.float64()) for name in names])
