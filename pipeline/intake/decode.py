"""Compressed pixel data: decoded in child processes with limits on memory and time, so that a hostile file stops only them.

A child (:mod:`batchone.pipeline.intake.decoder`) gets encoded bytes and numbers, never a path or a name, and answers with raw
pixels only, which are read straight into their place; nothing that it sends is unpickled.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass

from batchone.pipeline.errors import SeriesError
from batchone.pipeline.intake import decoder
from batchone.pipeline.intake.package import THREADS

MAX_IMAGE_WAIT_S = 60.0  # wall clock of one image, start of the child included; the child's processor time ends it far earlier
IMAGES_WORTH_A_CHILD = 32  # starting one costs as much as decoding so many images

_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # no child computes in parallel, and each pool costs memory
_PIPE_BYTES = 1 << 20  # one image of 512 x 512 and its codestream
_UNCOMPRESSED = "ask the sender to export without compression"


@dataclass(frozen=True, slots=True)
class Encoded:
    """One compressed image of 16 bits a pixel: how to get its codestream, where the pixels go, and what the decoder must know."""

    fetch: Callable[[], bytes]
    target: memoryview
    syntax: str
    rows: int
    columns: int
    stored_bits: int
    signed: bool


def decode_all(images: Sequence[Encoded]) -> None:
    """Decode every image into its target as little-endian values, on a few children.

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
    command = [sys.executable, "-I", "-S", "-B", decoder.__file__, json.dumps(sys.path)]
    pipe = subprocess.PIPE
    environment = {**os.environ, **_ONE_THREAD}
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=environment, bufsize=0) as child:  # noqa: S603 - our own program, no shell
        try:
            _prepare_pipes(child)
            for image in images:
                _decode_one(child, image)
        finally:
            child.kill()


def _decode_one(child: subprocess.Popen[bytes], image: Encoded) -> None:
    if child.stdin is None or child.stdout is None:
        raise AssertionError("the child was started without pipes")
    deadline_s = time.monotonic() + MAX_IMAGE_WAIT_S
    status = memoryview(bytearray(1))
    try:
        _send(child.stdin.fileno(), _request(image), deadline_s)
        _receive(child.stdout.fileno(), status, deadline_s)
        if bytes(status) == decoder.DECODED:
            _receive(child.stdout.fileno(), image.target, deadline_s)
            return
    except TimeoutError:
        raise SeriesError(
            f"a compressed image takes more than {MAX_IMAGE_WAIT_S:g} s to decode, at most {MAX_IMAGE_WAIT_S:g} s",
            hint=_UNCOMPRESSED,
        ) from None
    except OSError:
        raise _ended(child.wait()) from None
    raise SeriesError(
        "a compressed image is damaged: it does not decode to the rows and columns that it states",
        hint=f"ask the sender to send the series again, or {_UNCOMPRESSED.removeprefix('ask the sender ')}",
    )


def _ended(code: int) -> SeriesError:
    if code == -signal.SIGXCPU:
        text = f"a compressed image takes more than {decoder.MAX_IMAGE_CPU_S} s of processor time to decode, at most"
        return SeriesError(f"{text} {decoder.MAX_IMAGE_CPU_S} s", hint=_UNCOMPRESSED)
    megabytes = decoder.MAX_EXTRA_BYTES / 1e6
    return SeriesError(
        f"the decoder of a compressed image ended (limits: {megabytes:.0f} MB, {decoder.MAX_IMAGE_CPU_S} s per image)",
        hint=_UNCOMPRESSED,
    )


def _request(image: Encoded) -> list[bytes]:
    head = json.dumps(
        {
            "syntax": image.syntax,
            "rows": image.rows,
            "columns": image.columns,
            "bits_stored": image.stored_bits,
            "signed": image.signed,
        }
    ).encode()
    data = image.fetch()
    return [decoder.REQUEST.pack(len(head), len(data)) + head, data]


def _send(handle: int, parts: Sequence[bytes], deadline_s: float) -> None:
    for part in parts:
        rest = memoryview(part)
        while rest:
            _wait(handle, deadline_s, write=True)
            rest = rest[os.write(handle, rest) :]


def _receive(handle: int, target: memoryview, deadline_s: float) -> None:
    done = 0
    while done < len(target):
        _wait(handle, deadline_s, write=False)
        count = os.readv(handle, [target[done:]])
        if not count:
            raise BrokenPipeError
        done += count


def _wait(handle: int, deadline_s: float, *, write: bool) -> None:
    poll = select.poll()
    poll.register(handle, select.POLLOUT if write else select.POLLIN)
    if not poll.poll(max(deadline_s - time.monotonic(), 0.0) * 1000.0):
        raise TimeoutError


def _prepare_pipes(child: subprocess.Popen[bytes]) -> None:
    """Fewer turns for each image (where the system allows it), and no write that waits longer than the deadline."""
    if child.stdin is None or child.stdout is None:
        raise AssertionError("the child was started without pipes")
    os.set_blocking(child.stdin.fileno(), False)
    set_size = getattr(fcntl, "F_SETPIPE_SZ", None)
    for end in (child.stdin, child.stdout):
        if set_size is not None:
            with suppress(OSError):
                fcntl.fcntl(end.fileno(), set_size, _PIPE_BYTES)
