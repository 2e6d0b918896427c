"""Blocks of a deflate stream: what zlib makes of them is what they were made of."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchone.slicer.deflate import block_of

LAST = b"\x03\x00"  # an empty block that ends a stream


def unpacked(blocks: list[bytes]) -> bytes:
    return zlib.decompressobj(-15).decompress(b"".join(blocks) + LAST)


def runs_of(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    values = np.frombuffer(data, dtype=np.uint8)
    first = np.flatnonzero(np.diff(values, prepend=values[:1] ^ 1) != 0)
    return np.diff(first, append=len(values)).astype(np.int64), values[first].copy()


@pytest.mark.parametrize("length", [*range(1, 12), *range(255, 264), 515, 516, 517, 518, 70_000])
def test_a_run_of_any_length_comes_back(length: int) -> None:
    for value in (0, 1, 33, 34, 254, 255):
        data = bytes([7]) + bytes([value]) * length + bytes([9])
        block, _ = block_of(*runs_of(data), before=0, after=0)
        assert unpacked([block.tobytes()]) == data


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=1, max_size=400), st.integers(0, 9_000_000), st.integers(0, 9_000_000))
def test_any_bytes_come_back_and_the_sum_is_that_of_the_whole_stream(data: bytes, before: int, after: int) -> None:
    block, total = block_of(*runs_of(data), before=before, after=after)
    assert unpacked([block.tobytes(), block.tobytes()]) == data + data
    assert total == zlib.adler32(bytes(before) + data + bytes(after))


def test_an_image_of_a_disc_is_hardly_larger_than_with_a_code_of_its_own() -> None:
    y, x = np.mgrid[:600, :2501]
    cover = np.clip(250.0 - np.hypot(x - 1200.0, y - 300.0), 0.0, 1.0)
    data = np.rint(255.0 * cover).astype(np.uint8).tobytes()
    block, _ = block_of(*runs_of(data), before=0, after=0)
    packer = zlib.compressobj(6, zlib.DEFLATED, -15, 9, zlib.Z_RLE)
    assert len(block) < 1.5 * len(packer.compress(data) + packer.flush(zlib.Z_FULL_FLUSH))
