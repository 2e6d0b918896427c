"""The process that runs the stages of one case: requests come as lines, answers go as lines of JSON.

The first request names the case; while there is none it loads what stages need after a change, which takes longer than most of
them run. It holds the case from then to its end, so that values stay in memory between stages. When the worker that started it
is gone, its input ends, and so does it: at once, whatever it computes; a stage's result appears by rename or not at all.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import pkgutil
import sys
import threading
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

from batchone.pipeline.errors import BatchoneError, MachineError
from batchone.pipeline.kernel_cache import use_kernel_cache
from batchone.pipeline.memory import keep_freed_memory

_ORPHANED = 3
_GIVES_WAY: Final = 10  # of nice's 19: where cores are few, a server that answers and a worker that tells it is alive come first
_AHEAD: Final = ("batchone.design", "cadquery")  # a changed parameter goes on from the plan: nothing of the stages before


def main(site: Path) -> None:
    """Answer requests about a case until there are no more."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer
    requests: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    _load_ahead(requests)
    try:
        _serve(site, requests.get(), requests, answers)
    except BatchoneError as error:
        _say(answers, _failure(error))


def _listen(requests: SimpleQueue[str]) -> None:
    for line in sys.stdin:
        requests.put(line.strip())
    os._exit(_ORPHANED)  # no clean-up: the stage at hand must not go on


def _load_ahead(requests: SimpleQueue[str]) -> None:
    """Import modules, and so read compiled kernels from their cache, until there is a request."""
    with contextlib.suppress(ImportError):  # the stage that needs it says so
        names = chain(("batchone.pipeline.case",), *map(_modules, _AHEAD))
        while requests.empty() and (name := next(names, None)) is not None:
            importlib.import_module(name)


def _modules(package: str) -> Iterator[str]:
    yield package
    if package.startswith("batchone."):  # its modules are loaded where they are needed, others load their own
        folder = importlib.import_module(package).__path__
        yield from (found.name for found in pkgutil.walk_packages(folder, f"{package}."))


def _serve(site: Path, case_id: str, requests: SimpleQueue[str], answers: Any) -> None:
    from batchone.pipeline.case import case_folder, opened_case
    from batchone.pipeline.case_order import read_case_order
    from batchone.pipeline.stages import STAGES

    folder = case_folder(site, case_id)
    order = read_case_order(folder / "order.toml")
    if order.case != case_id:
        raise MachineError(
            f"the folder of case {case_id} holds the order of case {order.case}", hint="put the right order.toml in place"
        )
    study = folder / "study"
    with opened_case(order, study if study.is_dir() else None, site=site) as run:
        _say(answers, {"status": "open"})
        ahead = iter(STAGES)
        while True:
            wanted = requests.get()
            stopped = None
            for stage in ahead:  # earlier stages are kept or, where their results are gone, made again
                stopped = run.advance(stage)
                if stopped is not None or stage.name == wanted:
                    break
            gave = {} if stopped else {"digest": run.digest(stage)}
            _say(answers, {"stage": stage.name, "status": stopped or "going-on", **gave})
            if stopped is not None:
                return


def _failure(error: BatchoneError) -> dict[str, Any]:
    return {"stage": error.stage, "status": "failed", "exit_code": error.exit_code}


def _say(answers: Any, tree: dict[str, Any]) -> None:
    answers.write(json.dumps(tree).encode() + b"\n")


if __name__ == "__main__":
    os.nice(_GIVES_WAY)
    use_kernel_cache()
    keep_freed_memory()
    main(Path(sys.argv[1]))
