"""The small factory: from DICOM to a released device record, with a print that fails on the way."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner

import batchone.pipeline.cli as cli
from batchone.factory.record import record_signers, verify_record
from batchone.pipeline.clock.folder import read_case
from batchone.pipeline.events import EVENTS, read_chain
from batchone.pipeline.telemetry import read_machines

SCHEMAS = Path(cli.__file__).parent / "schemas"


@pytest.mark.slow
def test_a_sample_case_goes_from_dicom_to_a_released_record_with_one_print_that_failed(tmp_path: Path) -> None:
    out = tmp_path / "factory"
    asked = ["factory", "demo", "--device", "anatomical-model", "--speed", "100000", "--out", str(out)]
    done = CliRunner().invoke(cli.app, asked)
    assert done.exit_code == 0, done.output
    (failed,) = (out / "cell-1" / "records").iterdir()
    (record,) = (out / "cell-2" / "records").iterdir()
    first, second = (verify_record(one, allowed=record_signers(one.parent.parent / "keys")) for one in (failed, record))
    assert (first.verdict, first.attempt, second.verdict, second.attempt) == ("failed", 1, "released", 2)
    assert second.demonstration
    assert second.udi in done.output
    (case,) = (out / "site" / "cases").iterdir()
    told = [event.what for event in read_chain(case / EVENTS).events]
    at = told.index("print started")
    assert told[at:] == [
        "print started", "print failed", "print started", "print done", "post-processing done", "inspection done",
        "sterilisation done", "delivered",
    ]  # fmt: skip
    assert read_case(case).case == second.as_built.bodies[0].case
    heard = read_machines(out / "site", rows=1, alarms=10)
    assert [(one.session.session, one.session.ended, one.session.missing) for one in heard.machines] == [
        (failed.name, "stopped", 0), (record.name, "ended", 0)
    ]  # fmt: skip
    assert heard.machines[0].rows[-1].state == "failed"
    assert [one.name for one in heard.machines[0].alarms] == ["mains"]
    assert heard.refused == ()
    found = CliRunner().invoke(cli.app, ["trace", "TEST-LOT-1", "--site", str(out / "site"), "--json"])
    tree = json.loads(found.stdout)
    jsonschema.validate(tree, json.loads((SCHEMAS / "trace.schema.json").read_bytes()))
    assert [one["verdict"] for one in tree["devices"]] == ["failed", "released"]
    assert tree["devices"][1]["images"] > 100
