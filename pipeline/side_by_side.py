"""Independent pieces of work at the same time, each on its share of the cores.

What is computed does not depend on it: a piece shares nothing that it writes, and results come in the order of the pieces. It
pays where much of the work is not in kernels that use all cores by themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numba as nb

_Result = TypeVar("_Result")
_Other = TypeVar("_Other")


def side_by_side(pieces: list[Callable[[], _Result]]) -> list[_Result]:
    """The results of all pieces, in their order; of several errors the first piece's is raised."""
    cores = nb.get_num_threads()
    workers = min(len(pieces), cores)
    if workers < 2 or not _kernels_may_meet():
        return [piece() for piece in pieces]
    with ThreadPoolExecutor(workers, initializer=nb.set_num_threads, initargs=(max(1, cores // workers),)) as pool:
        return [running.result() for running in [pool.submit(piece) for piece in pieces]]


def beside(main: Callable[[], _Result], aside: Callable[[], _Other]) -> tuple[_Result, _Other]:
    """The results of two pieces of which each may use all cores; of two errors the main piece's is raised."""
    cores = nb.get_num_threads()
    if cores < 2 or not _kernels_may_meet():
        return main(), aside()
    with ThreadPoolExecutor(1, initializer=nb.set_num_threads, initargs=(cores,)) as pool:
        other = pool.submit(aside)
        return main(), other.result()


def _kernels_may_meet() -> bool:
    """Whether kernels may be called from two threads: numba's own scheduler, used where OpenMP is missing, ends the process."""
    try:
        return bool(nb.threading_layer() != "workqueue")
    except ValueError:  # no kernel has run yet
        return False
