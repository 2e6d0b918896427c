"""The drill template of docs/own-family as if it were installed, in this process alone."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from batchone.design.families import GROUP, load_families

_PACKAGE = Path(__file__).parents[1] / "docs" / "own-family"
_NAME = "drill-template"


@contextmanager
def drill_template_installed() -> Iterator[None]:
    """Put the package and an entry point of its own on the path; as it is, where the family is there already."""
    if _NAME in load_families():
        yield
        return
    with TemporaryDirectory() as folder:
        about = Path(folder) / "drill_template-0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {_NAME}\nVersion: 0\n")
        (about / "entry_points.txt").write_text(f"[{GROUP}]\n{_NAME} = drill_template:DRILL_TEMPLATE\n")
        sys.path[:0] = [folder, str(_PACKAGE)]
        load_families.cache_clear()
        try:
            yield
        finally:
            del sys.path[:2]
            load_families.cache_clear()
