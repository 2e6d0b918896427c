"""Reads one study from a DICOMweb server into the spool: its CT images, all of them or none that count.

QIDO-RS says which images there are, WADO-RS brings them (PS3.18, 10.4 and 10.6), a series at a time as one multipart stream
that is never held in memory; what is there already from an earlier try is not fetched again.
"""

from __future__ import annotations

import json
import logging
import re
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from batchone.pipeline.errors import InputError, MachineError
from batchone.pipeline.hospital.multipart import parts
from batchone.pipeline.hospital.spool import CLASSES, Announced, Spool

PASSWORD_VARIABLE = "BATCHONE_DICOMWEB_PASSWORD"  # noqa: S105 - the name of the variable, not its value
PAGE = 1_000  # images asked for at once; servers that return fewer are asked again
MAX_OBJECTS = 20_000  # of all kinds in one study; project default, three times the images that the intake reads
MAX_LIST_BYTES = 16_000_000  # one answer of QIDO-RS; an image takes about 1 kB
TIMEOUT_S = 60.0  # to connect, and between two pieces of an answer; a PACS may fetch from its archive first
_UID = re.compile(r"[0-9.]{1,64}")
_DICOM = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_CLASS, _SERIES, _INSTANCE = "00080016", "0020000E", "00080018"

Progress = Callable[[int, int], None]
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DicomWeb:
    """A DICOMweb server and how to speak to it; ``url`` is the root of its services."""

    url: str
    user: str | None = None
    password: str = ""
    tls: ssl.SSLContext | None = None


def fetch_study(
    server: DicomWeb, study_uid: str, spool: Spool, *, source: str, progress: Progress = lambda done, of: None
) -> str:
    """Bring a study's CT images into the spool.

    Parameters
    ----------
    source
        Names this reader in the spool; the study counts as whole only when every image that the server lists arrived.
    progress
        Called with the images kept so far and their number.

    Returns
    -------
    str
        The study's keyed name in the spool.

    Raises
    ------
    InputError
        The server knows no such study, or no CT image in it, or sent something else.
    MachineError
        The server cannot be reached, refuses, or breaks off; what came is kept for the next try.
    """
    if not _UID.fullmatch(study_uid):
        raise InputError("the study is not named by a DICOM UID, must be digits and dots, at most 64", hint="give --study UID")
    complete = False
    try:
        with _client(server) as client:
            listed = _listed(client, study_uid)
            _fetch_missing(client, study_uid, listed, spool, source=source, progress=progress)
            complete = True
    finally:
        spool.end(source, whole=complete)
    return spool.name_of(study_uid)


def _fetch_missing(
    client: httpx.Client, study_uid: str, listed: dict[str, str], spool: Spool, *, source: str, progress: Progress
) -> None:
    """Series by series where nothing is there yet, else image by image."""
    spool.begin(study_uid, source)
    kept = {uid for uid in listed if spool.holds(study_uid, uid)}
    progress(len(kept), len(listed))

    def bring(place: str) -> None:
        for uid in _retrieve(client, study_uid, place, spool, source=source):
            kept.add(uid)
            progress(len(kept & listed.keys()), len(listed))

    for series in sorted(set(listed.values())):
        wanted = {uid for uid, its in listed.items() if its == series}
        if not wanted & kept:
            bring(f"series/{series}")
        for uid in sorted(wanted - kept):
            bring(f"series/{series}/instances/{uid}")
    if lost := len(listed.keys() - kept):
        raise MachineError(
            f"the DICOMweb server lists {len(listed)} CT images of the study and sent {len(listed) - lost}, all are needed",
            hint="run the same command again: only what is missing is fetched",
        )


def _listed(client: httpx.Client, study_uid: str) -> dict[str, str]:
    """Instance -> series of the study's CT images."""
    found: dict[str, str] = {}
    seen: set[str] = set()
    while True:
        page = _query(client, f"studies/{study_uid}/instances", {"limit": PAGE, "offset": len(seen), "includefield": _CLASS})
        known = len(seen)
        for item in page:
            uid, series, sop_class = (_value(item, tag) for tag in (_INSTANCE, _SERIES, _CLASS))
            seen.add(uid)
            if sop_class in CLASSES and _UID.fullmatch(uid) and _UID.fullmatch(series):
                found[uid] = series
        if len(seen) > MAX_OBJECTS:
            raise InputError(
                f"the study holds more than {MAX_OBJECTS} objects, at most {MAX_OBJECTS}",
                hint="is this the study meant?",
            )
        if len(page) < PAGE or len(seen) == known:  # the last page, or a server that knows no pages
            break
    if not seen:
        raise InputError("the DICOMweb server knows no such study", hint="check --study, and that this user may see it")
    if not found:
        raise InputError(
            f"the study holds 0 CT images among {len(seen)} objects, at least 1 is needed", hint="check that --study names the CT"
        )
    return found


def _query(client: httpx.Client, path: str, parameters: dict[str, Any]) -> list[dict[str, Any]]:
    with _answer(client, path, "application/dicom+json", parameters) as answer:
        if answer.status_code == httpx.codes.NO_CONTENT:
            return []
        body = bytearray()
        for piece in answer.iter_bytes():
            body += piece
            if len(body) > MAX_LIST_BYTES:
                limit = f"{MAX_LIST_BYTES / 1e6:.0f} MB"
                raise MachineError(f"a list of the DICOMweb server has more than {limit}, at most {limit}", hint="see its log")
    try:
        tree = json.loads(body)
    except ValueError:
        tree = None
    if not isinstance(tree, list) or not all(isinstance(item, dict) for item in tree):
        raise MachineError(
            "the DICOMweb server's list is no DICOM JSON", hint="does --from name the root of its DICOMweb services?"
        )
    return tree


def _retrieve(client: httpx.Client, study_uid: str, place: str, spool: Spool, *, source: str) -> Iterator[str]:
    """Keep the CT images of one answer; yields the instance UID of each."""
    with _answer(client, f"studies/{study_uid}/{place}", _DICOM, {}) as answer:
        for part in parts(answer.headers.get("content-type", ""), answer.iter_bytes()):
            incoming = spool.incoming()
            try:
                for piece in part:
                    incoming.write(piece)
                yield spool.store(incoming, source, Announced(study=study_uid))
            finally:
                incoming.discard()


@contextmanager
def _answer(client: httpx.Client, path: str, accept: str, parameters: dict[str, Any]) -> Iterator[httpx.Response]:
    try:
        with client.stream("GET", path, params=parameters, headers={"Accept": accept}) as answer:
            _refuse_status(answer.status_code)
            yield answer
    except httpx.TimeoutException as error:
        raise _broken(f"did not answer for {TIMEOUT_S:.0f} s") from error
    except httpx.HTTPError as error:
        raise _broken(f"cannot be reached, or broke off ({_reason(error)})") from error


def _refuse_status(status: int) -> None:
    if status in (httpx.codes.OK, httpx.codes.NO_CONTENT, httpx.codes.PARTIAL_CONTENT):
        return
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise MachineError(
            f"the DICOMweb server refuses this user (HTTP {status})", hint=f"give --user NAME and ${PASSWORD_VARIABLE}"
        )
    if status == httpx.codes.NOT_FOUND:
        raise InputError(
            f"the DICOMweb server does not find the study (HTTP {status})",
            hint="check --study, and that --from names the root of its DICOMweb services",
        )
    raise MachineError(f"the DICOMweb server refuses (HTTP {status})", hint="see its log, then run the same command again")


def _broken(what: str) -> MachineError:
    return MachineError(f"the DICOMweb server {what}", hint="check --from and the network, then run again: what came is kept")


def _reason(error: Exception) -> str:
    """The system's word for it; an address or a path of the study never shows."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"TLS: {cause.verify_message}"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__


def _client(server: DicomWeb) -> httpx.Client:
    address = urlsplit(server.url)
    if address.scheme not in ("http", "https") or not address.hostname or address.query or address.fragment:
        raise InputError("--from is no http or https address", hint="as in https://pacs.example/dicom-web")
    if address.username or address.password:
        raise InputError("--from holds a password", hint=f"give --user NAME and ${PASSWORD_VARIABLE}")
    if address.scheme == "http" and address.hostname not in ("localhost", "127.0.0.1", "::1"):
        _log.warning("the DICOMweb server is read without encryption: use https where it can")
    return httpx.Client(
        base_url=server.url.rstrip("/") + "/",
        auth=(server.user, server.password) if server.user else None,
        timeout=TIMEOUT_S,
        headers={"Accept-Encoding": "identity"},  # nothing that could inflate
        follow_redirects=False,
        trust_env=False,
        verify=server.tls or True,
    )


def _value(item: dict[str, Any], tag: str) -> str:
    values = item.get(tag, {})
    found = values.get("Value") if isinstance(values, dict) else None
    return str(found[0]) if isinstance(found, list) and found else ""
