"""Values to files and back, and their digest.

A value becomes ``value.json`` (a self-describing tree) and one ``.npy`` or ``.bin`` file for each array or byte string.
The digest is the SHA-256 of the canonical tree, in which arrays and byte strings stand as their own SHA-256;
so it says the same whether the value lies in memory or on disk.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from batchone.pipeline import values

_TYPES: Mapping[str, type] = {
    name: item for name, item in vars(values).items() if isinstance(item, type) and dataclasses.is_dataclass(item)
}

_one_at_a_time = threading.Lock()
"""The header of an array is a literal: two threads that parse one at once may fail (CPython 3.11, gh-106905)."""

Blob = bytes | npt.NDArray[Any]


def flatten(value: Any) -> tuple[Any, dict[str, Blob]]:
    """Return the JSON tree of a value, and its arrays and byte strings by file name.

    Raises
    ------
    TypeError
        The value holds something that is not part of the vocabulary.
    """
    blobs: dict[str, Blob] = {}
    return _flatten(value, blobs), blobs


def digest(value: Any) -> str:
    """SHA-256 (hex) of a value of the vocabulary."""
    return tree_digest(flatten(value)[0])


def tree_digest(tree: Any) -> str:
    """SHA-256 (hex) of a JSON tree in canonical form."""
    return hashlib.sha256(canonical(tree)).hexdigest()


def canonical(tree: Any) -> bytes:
    """One byte string for one JSON tree: sorted keys, no spaces, UTF-8."""
    return json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=True).encode()


def save(value: Any, folder: Path) -> str:
    """Write a value into an existing folder and return its digest."""
    tree, blobs = flatten(value)
    for name, blob in blobs.items():
        if isinstance(blob, bytes):
            (folder / name).write_bytes(blob)
        else:
            _write_array(folder / name, blob)
    (folder / "value.json").write_bytes(json.dumps(tree, sort_keys=True, indent=1, ensure_ascii=False).encode())
    return tree_digest(tree)


def _write_array(path: Path, array: npt.NDArray[Any]) -> None:
    """Write a ``.npy`` file; numpy's own writer loses the system's error number when the disk is full."""
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(array))
        stream.write(array.reshape(-1).view(np.uint8).data)


def restore(tree: Any) -> Any:
    """The value of a tree of :func:`flatten` that has no arrays and byte strings.

    Raises
    ------
    KeyError, TypeError, ValueError
        The tree is none of the vocabulary.
    """
    return _restore(tree, Path())


def load(folder: Path) -> Any:
    """Read a value written by :func:`save`."""
    return _restore(json.loads((folder / "value.json").read_text(encoding="utf-8")), folder)


def _flatten(value: Any, blobs: dict[str, Blob]) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.ndarray):
        return _flatten_array(value, blobs)
    if isinstance(value, bytes):
        name = hashlib.sha256(value).hexdigest() + ".bin"
        blobs[name] = value
        return {"$bytes": name}
    if isinstance(value, dt.datetime):
        return {"$time": value.astimezone(dt.UTC).isoformat()}
    if isinstance(value, tuple):
        return {"$tuple": [_flatten(item, blobs) for item in value]}
    if type(value).__name__ in _TYPES:
        fields = {f.name: _flatten(getattr(value, f.name), blobs) for f in dataclasses.fields(value) if _is_told(f, value)}
        return {"$type": type(value).__name__, **fields}
    raise TypeError(f"{type(value).__name__} is not part of the vocabulary")


def _is_told(field: dataclasses.Field[Any], value: Any) -> bool:
    """Whether a field stands in the tree: one of a later version only when it says something, so that older digests hold."""
    return "later" not in field.metadata or getattr(value, field.name) != field.default


def _flatten_array(array: npt.NDArray[Any], blobs: dict[str, Blob]) -> Any:
    array = np.ascontiguousarray(array)
    header = f"{array.dtype.str}{array.shape}".encode()
    hasher = hashlib.sha256(header)
    hasher.update(array.reshape(-1).view(np.uint8).data)
    name = hasher.hexdigest() + ".npy"
    blobs[name] = array
    return {"$array": name}


def _restore(tree: Any, folder: Path) -> Any:
    if not isinstance(tree, dict):
        return tree
    if "$array" in tree:
        with _one_at_a_time:
            return np.load(folder / tree["$array"], allow_pickle=False)
    if "$bytes" in tree:
        return (folder / tree["$bytes"]).read_bytes()
    if "$time" in tree:
        return dt.datetime.fromisoformat(tree["$time"])
    if "$tuple" in tree:
        return tuple(_restore(item, folder) for item in tree["$tuple"])
    fields = {name: _restore(item, folder) for name, item in tree.items() if name != "$type"}
    return _TYPES[tree["$type"]](**fields)
