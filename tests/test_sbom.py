"""The bill of materials: each distribution once, with the digest of its files where these are known."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import metadata
from typing import Any

import pytest

from batchone.pipeline.job.manifest import canonical_json
from batchone.pipeline.job.sbom import sbom, sbom_faults
from batchone.pipeline.job.sums import sha256

NUMPY = {"numpy": metadata.version("numpy")}


def changed(change: Callable[[dict[str, Any]], object]) -> tuple[str, ...]:
    tree = json.loads(sbom(("numpy",)))
    change(tree)
    return sbom_faults(canonical_json(tree), NUMPY)


def digest_of(tree: dict[str, Any], value: object) -> None:
    tree["components"][1]["properties"][0]["value"] = value


def test_a_bill_of_what_is_installed_is_sound() -> None:
    assert sbom_faults(sbom(("numpy",)), NUMPY) == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tree: tree["components"].append(tree["components"][-1]), "listed more than once"),
        (lambda tree: digest_of(tree, sha256(b"")), "no sound digest"),
        (lambda tree: digest_of(tree, "0" * 63), "no sound digest"),
        (lambda tree: digest_of(tree, None), "no sound digest"),
        (lambda tree: tree["metadata"]["component"].pop("properties"), "batchone has no digest"),
        (lambda tree: tree["metadata"]["component"].update(properties=7), "batchone has no digest"),
    ],
)
def test_a_bill_that_says_a_name_twice_or_no_digest_is_not(change: Callable[[dict[str, Any]], object], words: str) -> None:
    assert words in " ".join(changed(change))


def test_a_distribution_whose_files_nobody_recorded_has_no_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    read = metadata.PathDistribution.read_text
    monkeypatch.setattr(metadata.PathDistribution, "read_text", lambda self, name: None if name == "RECORD" else read(self, name))
    sbom.cache_clear()
    try:
        tree = json.loads(sbom(("numpy",)))
        assert sbom_faults(canonical_json(tree), NUMPY) == ()
        assert all("properties" not in one for one in tree["components"])
    finally:
        sbom.cache_clear()
