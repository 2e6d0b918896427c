"""The site's shelf of device records, for cells that bring them over the network: whole, proved, by one rename."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from batchone.factory.dispatch import RECORDS
from batchone.factory.dispatch import shelve as on_the_shelf
from batchone.factory.inbox import PRINTS, Inbox
from batchone.factory.zip_folder import unpack
from batchone.pipeline.errors import InputError, MachineError
from batchone.pipeline.job.sums import SUMS
from batchone.pipeline.store import flush_tree, sha256_file

INCOMING: Final = ".record-"  # a folder of the site, while a record comes
MOST_RECORD_BYTES: Final = 500_000_000  # project default: a week of telemetry at 1 Hz is some 100 MB


def shelved_sums(site: Path, record: str) -> str | None:
    """SHA-256 of the ``SHA256SUMS`` of a record that lies here; None where there is none."""
    path = site / RECORDS / record / SUMS
    return sha256_file(path) if path.is_file() else None


def sweep(site: Path) -> None:
    """Remove what came when an earlier server died."""
    for left in site.glob(f"{INCOMING}*"):
        shutil.rmtree(left, ignore_errors=True)


def shelve(site: Path, record: str, who: str, file: str) -> str:
    """Put a record on the shelf; the same again changes nothing. Returns the SHA-256 of its ``SHA256SUMS``.

    Parameters
    ----------
    record
        Its name: job or plate, and attempt.
    who
        The account of the cell that made it.
    file
        A zip of stored entries below ``record/``, in a folder of its own.

    Raises
    ------
    InputError
        The zip is none, the record is not whole or of an attempt that this cell did not have, or another one lies here so named.
    """
    from batchone.factory.record import record_name, verify_record

    place = Path(file).parent / record
    unpack(Path(file), place, most_bytes=MOST_RECORD_BYTES)
    try:
        whole = verify_record(place, allowed=None)  # whole; whose keys these are is for `batchone verify` to prove
    except (MachineError, OSError, ValueError) as error:
        raise InputError(f"record {record} is not whole: {error}", hint="send it again; else look at the cell") from error
    name = record_name(whole.name, whole.attempt)
    if name != record or whole.as_built.cell != who:
        raise InputError(f"it is record {name} of cell {whole.as_built.cell}, not {record} of {who}", hint="send one's own")
    try:
        holder = Inbox(site / PRINTS).read(whole.name).account(whole.attempt)
    except OSError as error:
        raise MachineError(f"the ledger of prints cannot be read: {error.strerror}", hint="send it again later") from error
    if holder != who:
        raise InputError(f"attempt {whole.attempt} of {whole.name} was that of {holder or 'no cell'}", hint="send one's own")
    flush_tree(place)
    there = shelved_sums(site, record)
    if there is not None and there != sha256_file(place / SUMS):
        raise InputError(f"another one lies here as {record}", hint="compare both: an attempt has one record")
    return sha256_file(on_the_shelf(place, site, cell=who) / SUMS)
