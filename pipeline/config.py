"""The settings of a site: ``<site>/site.toml``, strict; without the file, the defaults.

Settings are values: what a stage reads of them is part of what its result is kept by.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from batchone.pipeline.errors import MachineError
from batchone.pipeline.order import Model

SITE_FILE = "site.toml"
_MAX_BYTES = 1_000_000

Argument = Annotated[str, Field(min_length=1, max_length=4096)]


class External(Model):
    """A program that tells bones apart, behind a file contract (see docs/contract.md).

    ``program`` is the command; ``{image}``, ``{labels}`` and ``{names}`` stand for the three files. ``version`` is what the
    program must state in the file of names: another one is refused, so that a result stays what it was made with.
    """

    program: Annotated[tuple[Argument, ...], Field(strict=False, min_length=1, max_length=64)]
    version: Annotated[str, Field(min_length=1, max_length=64)]
    timeout_s: Annotated[float, Field(gt=0.0, le=86_400.0)] = 1800.0
    memory_mb: Annotated[float, Field(gt=0.0, le=4_000_000.0)] = 16_000.0

    @model_validator(mode="after")
    def _the_files_are_named(self) -> External:
        text = " ".join(self.program)
        missing = [name for name in ("{image}", "{labels}", "{names}") if name not in text]
        if missing:
            raise ValueError(f"program must name {', '.join(missing)}")
        return self


class Segmentation(Model):
    """Who tells the bones apart."""

    backend: Literal["threshold", "external"] = "threshold"
    external: External | None = None

    @model_validator(mode="after")
    def _an_external_backend_is_described(self) -> Segmentation:
        if self.backend == "external" and self.external is None:
            raise ValueError("backend is external: [segmentation.external] must say program and version")
        return self


class SiteSettings(Model):
    """All of ``site.toml``."""

    segmentation: Segmentation = Segmentation()


def read_site(site: Path) -> SiteSettings:
    """Read a site's settings.

    Raises
    ------
    MachineError
        The file is not readable, not TOML or not valid; all faults are listed.
    """
    path = site / SITE_FILE
    hint = f"correct {SITE_FILE}; docs/contract.md lists its keys"
    try:
        if not path.exists():
            return SiteSettings()
        if path.stat().st_size > _MAX_BYTES:
            raise MachineError(f"{SITE_FILE} is {path.stat().st_size} bytes, at most {_MAX_BYTES} bytes", hint=hint)
        return SiteSettings.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise MachineError(f"{SITE_FILE} cannot be read: {error.strerror}", hint="check the site folder") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MachineError(f"{SITE_FILE} is not valid TOML: {error}", hint=hint) from error
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc'])) or SITE_FILE}: {fault['msg']}" for fault in error.errors()]
        raise MachineError(f"{SITE_FILE}: " + "; ".join(faults), hint=hint) from error
