"""A site's own settings: ``<site>/site.toml``, read by the command and passed on as values.

A site may be stricter than a family's protocol, never laxer. What it sets becomes part of the protocol that the intake takes, so
that a changed setting is judged anew.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, ValidationError, model_validator

from batchone.pipeline.errors import MachineError
from batchone.pipeline.limits import Protocol
from batchone.pipeline.order import Code, Model

SETTINGS = "site.toml"
_MAX_BYTES = 100_000  # settings are a page of text
_MAX_AGE_DAYS = 36_500  # a hundred years: beyond it is a slip of the pen
_MAX_HOURS = 720.0  # a month: a leg that long is no matter of a clock
_HINT = f"correct {SETTINGS} in the site's folder; docs/contract.md lists its keys"

Argument = Annotated[str, Field(min_length=1, max_length=4096)]
Role = Annotated[str, Field(pattern=r"^[a-z][a-z-]{0,63}$")]
AgeDays = Annotated[int, Field(gt=0, le=_MAX_AGE_DAYS)]
MachineName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
Hours = Annotated[float, Field(gt=0.0, le=_MAX_HOURS)]


class ScanSettings(Model):
    """What the site wants of every scan, whatever the device. Ages in days, from the scan to the day the device is due."""

    warn_age_days: AgeDays | None = None
    max_age_days: AgeDays | None = None


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


class EngineSettings(Model):
    """How the workers of a site run its cases.

    ``database`` is the URL of a PostgreSQL database without its password; without it the engine keeps SQLite in the site's folder
    and one worker runs. ``cases`` run at once in one worker, each stage on ``threads`` threads (without it as many as it likes).
    """

    database: Annotated[str, Field(pattern=r"^postgresql://[^\s]{1,400}$")] | None = None
    cases: Annotated[int, Field(ge=1, le=64)] = 1
    threads: Annotated[int, Field(ge=1, le=256)] | None = None


class WorkshopHours(Model):
    """What a process usually takes here, in hours, of which half the cases take at most so long; what is not given stays ours."""

    print_h: Hours | None = None
    post_processing_h: Hours | None = None
    inspection_h: Hours | None = None
    sterilisation_h: Annotated[float, Field(ge=0.0, le=_MAX_HOURS)] | None = None


class ClockSettings(Model):
    """What the clock reckons with until this site's own records say otherwise, in hours; half the cases take at most so long.

    ``level``: an approval is safe while the case is on time with this probability. ``print_fails``: share of prints that fail.
    ``process``: by the name of a process. A sterilisation of 0 h is none. Every default is unverified: a project default.
    """

    level: Annotated[float, Field(ge=0.5, le=0.999)] = 0.95
    review_h: Hours = 2.0
    queue_h: Hours = 4.0
    transport_h: Hours = 3.0
    print_fails: Annotated[float, Field(ge=0.0, le=0.5)] = 0.03
    process: dict[Code, WorkshopHours] = Field(default_factory=dict)


class Retention(Model):
    """How long a site keeps what, in days since a case was released; without a number for ever."""

    identity_days: AgeDays | None = None
    scan_days: AgeDays | None = None
    case_days: AgeDays | None = None


class ServerSettings(Model):
    """What ``batchone serve`` lets one hospital have under way: uploads that are not yet cases, their number and their bytes."""

    open_uploads_per_hospital: Annotated[int, Field(ge=1, le=10_000)] = 20
    open_bytes_per_hospital: Annotated[int, Field(ge=1_000_000, le=10**15)] = 20_000_000_000


class TelemetrySettings(Model):
    """What ``batchone telemetry`` takes in, and how long what is recent is kept; files by build stay.

    ``machines``: who is heard; without it whoever the broker lets in.
    """

    machines: Annotated[tuple[MachineName, ...], Field(strict=False)] | None = None
    recent_days: Annotated[float, Field(gt=0.0, le=_MAX_AGE_DAYS)] = 14.0
    recent_mb: Annotated[float, Field(ge=1.0, le=1e9)] = 10_000.0


class SiteSettings(Model):
    """Everything that a site may set; ``people``: the roles of those who review, by the names that they sign with."""

    scan: ScanSettings = ScanSettings()
    retention: Retention = Retention()
    segmentation: Segmentation = Segmentation()
    engine: EngineSettings = EngineSettings()
    clock: ClockSettings = ClockSettings()
    server: ServerSettings = ServerSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    people: dict[Code, Annotated[tuple[Role, ...], Field(strict=False, min_length=1)]] = Field(default_factory=dict)


def read_site_settings(site: Path) -> SiteSettings:
    """The settings of a site; the defaults where it has no file.

    Raises
    ------
    MachineError
        The file cannot be read, is no TOML, or sets what is not there to be set.
    """
    try:
        return read_toml(site / SETTINGS, SiteSettings, hint=_HINT)
    except (FileNotFoundError, NotADirectoryError):
        return SiteSettings()


_Settings = TypeVar("_Settings", bound=Model)


def read_toml(path: Path, model: type[_Settings], *, hint: str, strict: bool | None = None) -> _Settings:
    """Settings of a page of TOML.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        There is no such file.
    MachineError
        It cannot be read, is no TOML, or sets what is not there to be set.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise MachineError(f"{path.name} is larger than {_MAX_BYTES} bytes, at most {_MAX_BYTES} bytes", hint=hint)
        return model.model_validate(tomllib.loads(data.decode()), strict=strict)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise MachineError(f"{path.name} cannot be read: {error.strerror}", hint=hint) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise MachineError(f"{path.name} is not valid TOML: {error}", hint=hint) from error
    except ValidationError as error:
        faults = (f"{'.'.join(map(str, fault['loc']))}: {fault['msg']} (given {fault['input']!r})" for fault in error.errors())
        raise MachineError(f"{path.name}: {'; '.join(faults)}", hint=hint) from error


def protocol_at(settings: SiteSettings, protocol: Protocol) -> Protocol:
    """A family's protocol as it counts at a site: of two limits the stricter."""
    ages = {
        "warn_scan_age_days": _least(settings.scan.warn_age_days, protocol.warn_scan_age_days),
        "max_scan_age_days": _least(settings.scan.max_age_days, protocol.max_scan_age_days),
    }
    if all(value == getattr(protocol, name) for name, value in ages.items()):
        return protocol
    return protocol.model_copy(update=ages | {"source": f"{protocol.source}; age of the scan: {SETTINGS} of the site"})


def _least(one: int | None, other: int | None) -> int | None:
    return min((value for value in (one, other) if value is not None), default=None)
