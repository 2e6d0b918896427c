"""The process that runs the stages of one case: requests come as lines of JSON, so do the answers.

It holds the case from the first request to its end, so that values stay in memory between stages. When the worker that started
it is gone, its input ends, and so does it: at once, whatever it computes; a stage's result appears by rename or not at all.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from batchone.pipeline.errors import BatchoneError, MachineError
from batchone.pipeline.kernel_cache import use_kernel_cache
from batchone.pipeline.memory import keep_freed_memory

_ORPHANED = 3


def main(site: Path, case_id: str) -> None:
    """Answer requests about a case until there are no more."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer
    requests: SimpleQueue[str] = SimpleQueue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    try:
        _serve(site, case_id, requests, answers)
    except BatchoneError as error:
        _say(answers, _failure(error))


def _listen(requests: SimpleQueue[str]) -> None:
    for line in sys.stdin:
        requests.put(line.strip())
    os._exit(_ORPHANED)  # no clean-up: the stage at hand must not go on


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
    use_kernel_cache()
    keep_freed_memory()
    main(Path(sys.argv[1]), sys.argv[2])
