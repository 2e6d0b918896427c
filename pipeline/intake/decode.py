"""Compressed pixel data: decoded in child processes with limits on memory and time, so that a hostile file stops only them.

A child gets encoded bytes and numbers, never a path or a name, and answers with raw pixels only; nothing that it sends is
unpickled.
"""

from __future__ import annotations

import logging
import math
import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from batchone.pipeline.errors import SeriesError
from batchone.pipeline.intake.package import THREADS

MAX_CHILD_BYTES = 1_500_000_000  # memory of a child on top of what its interpreter holds; a slice needs a few MB; project default
MAX_SLICE_CPU_S = 5.0  # the slowest codec takes 0.1 s for 512 x 512; project default
MAX_SLICE_WAIT_S = 60.0  # wall clock for one slice, start of the child included; project default
IMAGES_WORTH_A_CHILD = 16  # starting one costs as much as decoding so many images
START_CPU_S = 30  # interpreter and imports

_DECODER_FAULTS = (ArithmeticError, AttributeError, LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError)
_PREFERRED = ("pyjpegls", "pylibjpeg")  # they give up on damaged data at once; GDCM, the third, may search it for many seconds
_FAILED = b"\0"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Encoded:
    """One compressed image: how to get its bytes, where the pixels go, and what the decoder must know."""

    fetch: Callable[[], bytes]
    target: memoryview
    syntax: str
    options: dict[str, Any]


def decode_all(images: Sequence[Encoded]) -> None:
    """Decode every image into its target, on a few children.

    Raises
    ------
    SeriesError
        An image cannot be decoded, or its decoder ran out of memory or time.
    """
    children = min(THREADS, math.ceil(len(images) / IMAGES_WORTH_A_CHILD))
    shares = [images[start::children] for start in range(children)]
    with ThreadPoolExecutor(children) as pool:
        for outcome in [pool.submit(_decode_share, share) for share in shares]:
            outcome.result()


def _decode_share(images: Sequence[Encoded]) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_serve, args=(theirs, len(images)), daemon=True)
    child.start()
    theirs.close()
    try:
        for image in images:
            _decode_one(ours, image)
    finally:
        ours.close()
        child.terminate()
        child.join()
        child.close()


def _decode_one(child: Connection, image: Encoded) -> None:
    try:
        child.send((image.fetch(), image.syntax, image.options))
        if not child.poll(MAX_SLICE_WAIT_S):
            raise SeriesError(
                f"a compressed image takes more than {MAX_SLICE_WAIT_S:g} s to decode, at most {MAX_SLICE_WAIT_S:g} s",
                hint="ask the sender to export without compression",
            )
        answer = child.recv_bytes(len(image.target) + 1)
    except (EOFError, OSError) as error:
        raise SeriesError(
            f"the decoder of a compressed image ended (limits: {MAX_CHILD_BYTES / 1e6:.0f} MB, {MAX_SLICE_CPU_S:g} s per image)",
            hint="ask the sender to export without compression",
        ) from error
    if len(answer) != len(image.target):
        raise SeriesError(
            "a compressed image is damaged: it does not decode to the rows and columns that it states",
            hint="ask the sender to send the series again, or to export without compression",
        )
    image.target[:] = answer


def _serve(parent: Connection, images: int) -> None:
    """The child: decode what comes, until the other end closes."""
    import warnings

    from pydicom.pixels import get_decoder

    warnings.simplefilter("ignore")
    logging.disable()
    _silence()
    _limit(images)
    while True:
        try:
            encoded, syntax, options = parent.recv()
        except EOFError:
            return
        try:
            decoder = get_decoder(syntax)
            plugin = next((name for name in _PREFERRED if name in decoder.available_plugins), "")
            pixels, _ = decoder.as_array(encoded, raw=True, index=0, decoding_plugin=plugin, **options)
            answer = pixels.astype(f"<{pixels.dtype.kind}2", copy=False).tobytes()
        except _DECODER_FAULTS:
            answer = _FAILED
        parent.send_bytes(answer)


def _silence() -> None:
    """Codecs write their complaints to the terminal; what a program prints there is a contract."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def _limit(images: int) -> None:
    import resource

    pages = Path("/proc/self/statm")
    held = int(pages.read_text().split()[0]) * resource.getpagesize() if pages.exists() else 0
    resource.setrlimit(resource.RLIMIT_AS, (held + MAX_CHILD_BYTES, held + MAX_CHILD_BYTES))
    seconds = START_CPU_S + int(images * MAX_SLICE_CPU_S)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
