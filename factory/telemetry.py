"""Readings of a machine as one Parquet file for each build, and their summary."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from batchone.pipeline.disk import disk, flush_folder
from batchone.pipeline.telemetry import Row

if TYPE_CHECKING:
    import pyarrow as pa

    from batchone.factory.drivers.driver import Reading

TELEMETRY: Final = "telemetry.parquet"
_PIECES: Final = ".telemetry"
_ENERGY: Final = "energy_kwh"  # a value that a machine may tell: since the begin of the build
_ROWS: Final = 2_000  # numerical: most rows of a piece: a quarter of an hour at two each second
_PIECE_S: Final = 60.0  # numerical: of the clock; what a cell that dies may lose, however slowly its machine tells


@dataclass(frozen=True, slots=True)
class Summary:
    """One value over the layers of a build: how many readings, least, mean, greatest, and how many readings lack it."""

    name: str
    readings: int
    least: float
    mean: float
    greatest: float
    lacking: int = 0


class TelemetryFile:
    """Writes readings as they come, in pieces that are whole; on leaving, all pieces become the file.

    A cell that dies leaves its pieces, and whoever opens the file again goes on behind them. What a reading lacks is null.

    Parameters
    ----------
    path
        The file; its pieces lie beside it in a folder of their own.
    clock_s
        By which a piece is written each minute, s.
    """

    def __init__(self, path: Path, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._path, self._folder = path, path.with_name(_PIECES)
        self._clock_s, self._since_s = clock_s, clock_s()
        self._rows: list[Reading] = []

    def __enter__(self) -> TelemetryFile:
        with disk():
            self._folder.mkdir(exist_ok=True)
            if self._path.is_file() and _is_whole(self._path):  # it holds all pieces that are there
                for piece in self._pieces():
                    piece.unlink()
                self._path.rename(self._folder / f"{0:06d}.parquet")
            self._path.unlink(missing_ok=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._flush()
        pieces = self._pieces()
        if pieces:
            whole = pa.concat_tables([pq.read_table(piece) for piece in pieces], promote_options="default")
            _put(self._path, whole.unify_dictionaries())
        with disk():
            shutil.rmtree(self._folder)

    def add(self, readings: Sequence[Reading]) -> None:
        """Add some readings, in the order of time.

        Raises
        ------
        MachineError
            The disk is full.
        """
        self._rows += readings
        if len(self._rows) >= _ROWS or self._clock_s() - self._since_s >= _PIECE_S:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        rows, self._rows, self._since_s = self._rows, [], self._clock_s()
        if not rows:
            return
        names = tuple(dict.fromkeys(name for row in rows for name in row.values))
        columns = [[row.time_s for row in rows], [row.state for row in rows], [row.layer for row in rows]]
        columns += [[row.values.get(name) for row in rows] for name in names]
        _put(self._folder / f"{len(self._pieces()):06d}.parquet", pa.table(columns, schema=_schema(names)))

    def _pieces(self) -> list[Path]:
        return sorted(self._folder.glob("[0-9]*.parquet"))


def write_part(path: Path, names: Sequence[str], rows: Sequence[Row]) -> None:
    """Some samples of a build as one file, which appears whole; what stood there is replaced.

    Columns are ``number``, ``heard_s`` (seconds since 1970), ``time_s`` (of the machine), ``state``, ``layer``, and the values.

    Raises
    ------
    MachineError
        The disk is full.
    """
    import pyarrow as pa

    schema = _schema(names)
    schema = pa.schema([("number", pa.int32()), ("heard_s", pa.float64()), *schema])
    columns = [[row.number for row in rows], [row.heard_s for row in rows], [row.time_s for row in rows]]
    columns += [[row.state for row in rows], [row.layer for row in rows], *zip(*(row.numbers for row in rows), strict=True)]
    with disk():
        path.parent.mkdir(parents=True, exist_ok=True)
    split = [name for name in schema.names if pa.types.is_float64(schema.field(name).type)]
    table = pa.table(columns, schema=schema)
    _put(path, table, use_dictionary=["state"], use_byte_stream_split=split)  # bytes of one place hardly change


def _put(path: Path, table: pa.Table, **options: Any) -> None:
    import pyarrow.parquet as pq

    part = path.with_name(f".{path.name}.part")
    with disk():
        pq.write_table(table, part, compression="zstd", **options)
        with part.open("rb") as stream:
            os.fsync(stream.fileno())
        part.replace(path)
        flush_folder(path.parent)


def _is_whole(path: Path) -> bool:
    """Whether a file has its end; one of a writer that was killed has none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        pq.read_metadata(path)
    except pa.ArrowInvalid:
        return False
    return True


@dataclass(frozen=True, slots=True)
class Reached:
    """How far a build had come by its last reading: seconds of the machine, layers that were done, and energy from the mains."""

    seconds: float = 0.0
    layers: int = 0
    energy_kwh: float = 0.0


def reached(path: Path) -> Reached:
    """What the last readings of a file say; nothing of the energy where the machine does not tell it."""
    if not path.is_file():
        return Reached()
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    most = {name: pc.max(table.column(name)).as_py() for name in ("time_s", "layer", _ENERGY) if name in table.column_names}
    return Reached(most["time_s"] or 0.0, max(most["layer"] or 0, 0), most.get(_ENERGY) or 0.0)


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
        ends, lacking = pc.min_max(column), column.null_count
        if lacking == len(column):
            continue
        least, mean, greatest = ends["min"].as_py(), pc.mean(column).as_py(), ends["max"].as_py()
        found.append(Summary(name, len(column) - lacking, float(least), float(mean), float(greatest), lacking))
    return tuple(found)


def _schema(names: Sequence[str]) -> pa.Schema:
    import pyarrow as pa

    fixed = [("time_s", pa.float64()), ("state", pa.dictionary(pa.int8(), pa.string())), ("layer", pa.int32())]
    return pa.schema(fixed + [(name, pa.float64()) for name in names])
