"""A cell's own settings: ``<cell>/cell.toml``, its machine, what is loaded, and until when it is calibrated."""

from __future__ import annotations

import datetime as dt
import secrets
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from batchone.factory.label import label_text, valid_gtin
from batchone.pipeline.config import read_toml
from batchone.pipeline.errors import MachineError
from batchone.pipeline.order import Code, Model
from batchone.pipeline.store import write_atomic

SETTINGS: Final = "cell.toml"
_HINT: Final = f"correct {SETTINGS} in the cell's folder; docs/contract.md lists its keys"

Text = Annotated[str, Field(min_length=1, max_length=200)]
LabelText = Annotated[str, AfterValidator(label_text)]


class Lot(Model):
    """A lot of material that is loaded: what it is, its number, until when it may be used, and what is known of it.

    ``facts`` are by the names that the process wants filled in (``conditions.lot_keys`` of ``job.json``).
    """

    material: Text
    lot: LabelText
    expires: dt.date
    facts: dict[Text, Text] = Field(default_factory=dict)


class Calibration(Model):
    """One calibration of the machine: when it was done, and the last day on which it counts."""

    name: Text
    done: dt.date
    due: dt.date


class BrokerSettings(Model):
    """Where the twin tells of itself over MQTT; its password is in ``$BATCHONE_BROKER_PASSWORD``."""

    url: Text
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    user: Text | None = None


class TwinSettings(Model):
    """How the machine twin runs: seconds of its machine in a second of the clock, the seed of its random faults, whom it tells.

    ``pictures``: of every so many layers; 0: none. Without ``broker`` it tells nobody.
    """

    speed: Annotated[float, Field(gt=0.0, le=1e6)] = 600.0
    seed: int = 0
    pictures: Annotated[int, Field(ge=0, le=100_000)] = 0
    broker: BrokerSettings | None = None


class OpcuaSettings(Model):
    """A machine behind an OPC UA server: its address, and where it finds builds.

    ``endpoint`` is ``opc.tcp://HOST:PORT/PATH``; off this PC with ``certificate`` and ``key`` (DER, PEM) of the cell and the
    machine's own ``server_certificate``. ``machine`` is its name below ``Machines``; empty: the only one there. Builds are put
    into ``share``, which the machine sees as ``seen_as``; empty: under the same path. ``measures``: what it measures of what
    processes want filled in. ``simulated``: it melts nothing.
    """

    endpoint: Text
    machine: Annotated[str, Field(max_length=200)] = ""
    share: Path
    seen_as: Annotated[str, Field(max_length=400)] = ""
    certificate: Path | None = None
    key: Path | None = None
    server_certificate: Path | None = None
    measures: Annotated[tuple[Text, ...], Field(strict=False)] = ()
    simulated: bool = False


class SiteAddress(Model):
    """A site that is reached over its server: ``https://NAME[:PORT]``, and the authority (PEM) of its certificate where need be.

    The cell's ``name`` is that of its account there, with the role ``cell``; the token is in ``$BATCHONE_TOKEN``.
    """

    url: Text
    ca: Path | None = None


class CellSettings(Model):
    """Everything that a cell sets.

    ``machine`` names the machine's profile and ``serial`` the machine itself. ``report`` is the site that hears of each step: its
    folder, beside which ``records`` collects device records; ``site`` is one that is reached over its server instead, from where
    the jobs come too. ``gtin`` is for the UDI label: without it (a custom-made device has
    no UDI duty) the label bears lot and serial number alone. ``lots`` and ``calibrations`` must be in date on the day of a print;
    a machine of which no calibration is told prints nothing.
    """

    name: Code
    machine: Code
    serial: Text
    driver: Literal["twin", "folder", "opcua"]
    report: Path | None = None
    gtin: Annotated[str, AfterValidator(valid_gtin)] | None = None
    lots: Annotated[tuple[Lot, ...], Field(strict=False, min_length=1)]
    calibrations: Annotated[tuple[Calibration, ...], Field(strict=False, min_length=1)]
    twin: TwinSettings = TwinSettings()
    opcua: OpcuaSettings | None = None
    site: SiteAddress | None = None

    @model_validator(mode="after")
    def _has_one_site(self) -> Self:
        if self.site is not None and self.report is not None:
            raise ValueError("[site] and report are two ways to one site: give one")
        return self

    @model_validator(mode="after")
    def _has_its_driver(self) -> Self:
        if (self.driver == "opcua") != (self.opcua is not None):
            raise ValueError('[opcua] and driver = "opcua" go together')
        return self

    def lot_of(self, material: str) -> Lot | None:
        """The lot of a material that is loaded."""
        return next((lot for lot in self.lots if lot.material == material), None)


def read_cell_settings(cell: Path) -> CellSettings:
    """The settings of a cell.

    Raises
    ------
    MachineError
        The file is not there, cannot be read, is no TOML, or sets what is not there to be set.
    """
    try:
        settings = read_toml(cell / SETTINGS, CellSettings, hint=_HINT, strict=False)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise MachineError(f"{SETTINGS} cannot be read: {error.strerror}", hint=_HINT) from error
    report = settings.report
    return (
        settings if report is None or report.is_absolute() else settings.model_copy(update={"report": (cell / report).resolve()})
    )


def identity_of(cell: Path, settings: CellSettings) -> str:
    """The cell's name, and what tells it from another of this name: made once, and kept in its folder."""
    path = cell / ".token"
    if not path.is_file():
        write_atomic(path, secrets.token_hex(4).encode())
    return f"{settings.name}@{path.read_text(encoding='ascii')}"
