"""The gateway at the hospital's edge: what is whole in the spool is packed, delivered, and becomes a case.

A study goes on when its senders have released their associations, nothing came for the quiet time, and its headers show a
sound volume; otherwise it waits, with the reason, for the rest. Which study an order is for is never guessed.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from batchone.pipeline.errors import BatchoneError, InputError, MachineError, OrderError
from batchone.pipeline.hospital.deliver import Progress, deliver
from batchone.pipeline.hospital.keep import Keep
from batchone.pipeline.hospital.parcel import pack
from batchone.pipeline.hospital.spool import CUT, Bounds, Spool, Waiting, spooled
from batchone.pipeline.intake.inbox import Inbox, accept
from batchone.pipeline.intake.make import inspect_study

if TYPE_CHECKING:
    from batchone.pipeline.hospital.dicomweb_in import DicomWeb
    from batchone.pipeline.hospital.listener import Listening

RETRY_S = 60.0  # after a failure of the site's disk or of ours, which a person may have cured
_LOOK_S = 0.25  # how often the spool is looked at
_REST = "it goes on when the rest arrives"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OrderFile:
    """An order, and the case that it names."""

    path: Path
    case: str


@dataclass(frozen=True, slots=True)
class Received:
    """A study that became a case; ``new`` is False when the same study was there already."""

    case: str
    folder: Path
    new: bool
    images: int
    parcel: str


def open_spool(keep: Keep, site: Path, *, purpose: str = "listener", bounds: Bounds | None = None) -> Spool:
    """The spool of one site in a hospital's keep; studies for another site never lie in it.

    Raises
    ------
    MachineError
        Another receiver works on it, or the folder cannot be made.
    """
    return Spool(_spools(keep.folder, site) / purpose, keep.derived("spool"), bounds or Bounds())


def waiting_studies(keep_folder: Path, site: Path) -> tuple[Waiting, ...]:
    """The studies that wait in the keep for their rest or their quiet time; needs no lock and changes nothing."""
    spools = _spools(keep_folder, site)
    return tuple(one for folder in (sorted(spools.iterdir()) if spools.is_dir() else ()) for one in spooled(folder))


def _spools(keep_folder: Path, site: Path) -> Path:
    return keep_folder / "spool" / hashlib.sha256(bytes(site.resolve())).hexdigest()[:12]


class Gateway:
    """Takes whole studies out of a spool and makes cases of them.

    Parameters
    ----------
    order
        What the next whole study is for; None when the orders come another way.
    study_uid
        The only study that the order may be for; None when it is the only one that comes.
    progress
        Shows the delivery.
    """

    def __init__(
        self,
        keep: Keep,
        site: Path,
        spool: Spool,
        *,
        order: OrderFile | None = None,
        study_uid: str | None = None,
        progress: Progress = lambda done, total: None,
    ) -> None:
        self.spool = spool
        self.received: list[Received] = []
        self._keep = keep
        self._site = site
        self._order = order
        self._only = None if study_uid is None else spool.name_of(study_uid)
        self._progress = progress
        self._retry_s: float | None = None

    @property
    def done(self) -> bool:
        """Whether the order has its study."""
        return self._order is not None and bool(self.received)

    def look(self, quiet_s: float) -> None:
        """Make cases of the studies that are due; those that cannot go on wait in the spool, with the reason.

        Raises
        ------
        OrderError
            There is one order, and more than one study that it may be for.
        """
        if self._retry_s is not None and time.monotonic() >= self._retry_s:
            self._retry_s = None
            self.spool.retry()
        for name in self.spool.due(quiet_s):
            if self.done or (self._only is not None and name != self._only):
                continue
            self._refuse_guessing()
            try:
                self.settle(name)
            except InputError as error:
                _log.warning("study %s waits: %s; %s", name[:12], error, error.hint or _REST)
            except MachineError as error:
                self._retry_s = time.monotonic() + RETRY_S
                _log.error("study %s waits: %s; %s; tried again in %.0f s", name[:12], error, error.hint, RETRY_S)
            except Exception as error:  # noqa: BLE001 - one study that shows a bug of ours must not keep the others out
                _log.critical("study %s waits: %s; report it, the study is kept", name[:12], _bug(error))

    def settle(self, name: str) -> Received:
        """Make a case of one study of the spool.

        Raises
        ------
        InputError
            It is not whole, shows no sound volume, or was refused; it waits in the spool.
        MachineError
            A disk is full or refuses; it waits in the spool.
        """
        if self.spool.is_cut(name):
            self.spool.wait(name, f"incomplete: {CUT}")
            raise InputError(f"incomplete: {CUT}", hint=f"send the study again; {_REST}")
        folder = self.spool.take(name)
        try:
            received = self._delivered(folder)
        except BaseException as error:
            self.spool.give_back(name, str(error) if isinstance(error, BatchoneError) else _bug(error))
            raise
        self.spool.drop(name)
        self.received.append(received)
        how = "is there" if received.new else "was there already"
        _log.info("study %s: %d images, case %s %s", name[:12], received.images, received.case, how)
        return received

    def _delivered(self, folder: Path) -> Received:
        _refuse_unsound(folder)
        order = self._order
        parcel = pack(folder, self._keep, order=order.path if order else None, case=order.case if order else "")
        receipt = deliver(parcel, self._site, self._progress)
        accepted = accept(self._site, receipt.place)
        return Received(accepted.case, accepted.folder, accepted.new, parcel.images, parcel.digest)

    def _refuse_guessing(self) -> None:
        if self._order is None or self._only is not None:
            return
        studies = len(self.spool.waiting())
        if studies > 1:
            raise OrderError(
                f"{studies} studies are in the spool, the order is for 1",
                hint="say which with --study UID; all are kept, and without --order each becomes a case that awaits its order",
            )


def _bug(error: BaseException) -> str:
    """What broke and where, without its text: that may quote what was read."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = f" at {Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}" if trace is not None else ""
    return f"interrupted by {type(error).__name__}{where}"


def _refuse_unsound(folder: Path) -> None:
    """A study goes on only when at least one of its series makes a true volume."""
    series = inspect_study(folder)
    if any(one.readable for one in series):
        return
    told = next((one for one in series if one.reason), None)
    raise InputError(
        f"incomplete: no series makes a volume{f': {told.reason}' if told else ''}",
        hint=f"{told.hint if told and told.hint else 'send the missing images'}; {_REST}",
    )


def listen(gateway: Gateway, listening: Listening, *, quiet_s: float, stop: threading.Event) -> None:
    """Listen for studies until told to stop, or until the order has its study.

    Raises
    ------
    MachineError
        The port cannot be listened on.
    OrderError
        There is one order, and more than one study that it may be for.
    """
    from batchone.pipeline.hospital.listener import Listener

    for one in gateway.spool.waiting():
        _log.info("study %s goes on: %d images are here (%s)", one.study, one.images, one.reason)
    with Listener(listening, gateway.spool) as listener:
        tls = "without TLS"
        if listening.tls is not None:
            tls = "TLS with client certificates" if listening.tls.verify_mode else "TLS"
        _log.info("listening on %s:%d as %s, %s", listening.host, listener.port, listening.title, tls)
        while not stop.wait(min(_LOOK_S, quiet_s / 4)) and not gateway.done:
            gateway.look(quiet_s)
    _log.info("stopped listening")


def read(gateway: Gateway, server: DicomWeb, study_uid: str, *, progress: Progress = lambda done, total: None) -> Received:
    """Read one study from a DICOMweb server and make a case of it; errors as :func:`fetch_study` and :meth:`Gateway.settle`."""
    from batchone.pipeline.hospital.dicomweb_in import fetch_study

    return gateway.settle(fetch_study(server, study_uid, gateway.spool, source=secrets.token_hex(8), progress=progress))


def take_in(site: Path) -> tuple[tuple[Received, ...], tuple[tuple[str, str], ...]]:
    """Make cases of the parcels in a site's inbox; returns them, and digest and reason of each that was refused now.

    Raises
    ------
    MachineError
        The site's disk is full or refuses; what is left stays in the inbox.
    """
    received, refused = [], []
    for parcel in Inbox(site).waiting():
        digest = parcel.stem
        try:
            accepted = accept(site, parcel)
        except InputError as error:
            refused.append((digest, f"{error}; {error.hint}" if error.hint else str(error)))
            continue
        received.append(Received(accepted.case, accepted.folder, accepted.new, _images(accepted.folder), digest))
    return tuple(received), tuple(refused)


def _images(case: Path) -> int:
    study = case / "study"
    return sum(1 for _ in study.iterdir()) if study.is_dir() else 0
