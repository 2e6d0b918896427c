"""A cell's site over its server's API: jobs by the ledger there, steps and records back. What cannot be reached is asked again.

The cell is an account of the server with the role ``cell`` and the cell's own name. An answer that was lost on the way does no
harm: each question may be asked again, and then changes nothing.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import httpx

from batchone.factory.inbox import BrokenOff, ClaimLost, Unreachable
from batchone.factory.reports import REMAKE, Report
from batchone.factory.zip_folder import pack, unpack
from batchone.pipeline.errors import InputError, MachineError
from batchone.pipeline.job.sums import SUMS, UNLISTED, read_sums
from batchone.pipeline.store import sha256_file

MOST_JOB_BYTES: Final = 4_000_000_000  # project default: a plate with its layers has some 100 MB
_CONNECT_S, _ANSWER_S = 5.0, 10.0  # of a question: a sixth of the time that a claim holds
_SLOW = httpx.Timeout(120.0, connect=_CONNECT_S)  # of a job, record or report, while no machine is watched
_PAUSES_S = (1.0, 5.0)  # project default: before a job that did not come whole is asked for again
_NOT_TAKEN = (409, 413, 422)  # of a record, whoever between cell and site says so
_OURS = "is [site] url the address of a batchone server?"
Told = TypeVar("Told")
_AGAIN = (401, 403, 408, 425, 429)  # a right that ended comes back; nothing was decided


class SiteLink:
    """A connection to a site's server.

    Parameters
    ----------
    url
        ``https://NAME[:PORT]``; ``http`` for loopback alone.
    token
        Of the cell's account.
    tls
        How the server proves itself.

    Raises
    ------
    MachineError
        The address is none that a job may travel over, or the token is missing.
    """

    def __init__(self, url: str, token: str, *, tls: ssl.SSLContext | bool = True) -> None:
        parts = urlsplit(url)
        if not parts.hostname or parts.path.strip("/") or parts.query or parts.username:
            raise MachineError(f"the site's address is {url}, must be https://NAME[:PORT]", hint="correct [site] url")
        if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(parts.hostname)):
            raise MachineError(f"the site's address is {parts.scheme}://{parts.netloc}, must be https", hint="correct [site] url")
        if not token:
            raise MachineError("there is no token of the cell's account", hint="set BATCHONE_TOKEN")
        self._client = httpx.Client(
            base_url=f"{url.rstrip('/')}/api/v1",
            headers={"Authorization": f"Bearer {token}"},
            verify=tls,
            timeout=httpx.Timeout(_ANSWER_S, connect=_CONNECT_S),
            limits=httpx.Limits(max_keepalive_connections=0),  # none that a server which was started again would not know
            follow_redirects=False,
        )

    def asked(self, method: str, path: str, read: Callable[[Any], Told], tree: dict[str, Any] | None = None) -> Told:
        """What ``read`` finds in the document of an answer.

        Raises
        ------
        Unreachable
            The site does not answer now, with another document than ours, or lets the cell do nothing: nothing was decided.
        ClaimLost
            410.
        MachineError
            The site refuses it.
        """
        with _reached():
            return read(_read(self._client.request(method, path, json=tree)).json())

    def account(self) -> str:
        """The name under which the site knows the cell."""
        return self.asked("GET", "/me", lambda tree: str(tree["name"]))

    def fetch(self, path: str, place: Path, *, sums: str = "") -> None:
        """Make ``place`` of a job, or of what says what it is; each file has the digest that the job's own list gives.

        Parameters
        ----------
        sums
            SHA-256 of that list, where it is known.

        Raises
        ------
        BrokenOff
            The site answers, and this breaks off or cannot be read there: nothing is said against the job.
        MachineError
            As :meth:`asked`; or its content is another one, also after pauses.
        """
        for pause_s in (*_PAUSES_S, None):
            try:
                self._fetch(path, place, sums)
            except (Unreachable, InputError) as error:
                self.account()  # is the site there at all?
                if pause_s is None:
                    text, hint = f"{place.name} does not come whole: {error}", "look at the site's disk"
                    raise (BrokenOff if isinstance(error, Unreachable) else MachineError)(text, hint=hint) from error
                time.sleep(pause_s)
            else:
                return

    def _fetch(self, path: str, place: Path, sums: str) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=".fetched-") as folder:
            file, came = Path(folder) / "job.zip", Path(folder) / place.name
            with _reached(), self._client.stream("GET", path, timeout=_SLOW) as answer, file.open("wb") as sink:
                if answer.status_code != httpx.codes.OK:
                    answer.read()
                for block in _read(answer).iter_bytes():
                    sink.write(block)
            if not zipfile.is_zipfile(file):
                raise Unreachable("the site answered with another document, or a part of one", hint=_OURS)
            unpack(file, came, most_bytes=MOST_JOB_BYTES)
            _prove(came, sums)
            came.rename(place)

    def deliver(self, report: Report) -> None:
        """Tell one report; see :data:`batchone.factory.reports.Deliver`."""
        tree = {"job": report.job, "reason": report.reason}
        if report.step != REMAKE:
            tree |= {"step": report.step, "machine": report.machine, "lot": report.lot}
        path = f"/cases/{report.case}/{'remake' if report.step == REMAKE else 'workshop'}"
        with _reached():
            answer = self._client.post(path, json=tree, timeout=_SLOW)
            told = _why(answer)
            if answer.status_code in (404, 409, 422) and told is not None:
                raise InputError(told[0], hint=told[1])
            _ = _read(answer).json()["new"]

    def shelve(self, record: Path) -> None:
        """Bring a closed record to the site's shelf, where it is not there yet.

        Raises
        ------
        InputError
            The site does not take it, or another one lies there.
        MachineError
            As :meth:`asked`.
        """
        wanted = sha256_file(record / SUMS)
        with _reached():
            answer = self._client.get(f"/records/{record.name}")
            missing = answer.status_code == httpx.codes.NOT_FOUND and _why(answer) is not None
            there = "" if missing else str(_read(answer).json()["sums"])
        if missing:
            with tempfile.TemporaryDirectory(prefix="batchone-record-") as folder:
                file = Path(folder) / "record.zip"
                pack(record, file)
                with _reached(), file.open("rb") as source:
                    sent = self._client.put(f"/records/{record.name}", content=_blocks(source), timeout=_SLOW)
                    if sent.status_code in _NOT_TAKEN:
                        message, hint = _why(sent) or (sent.reason_phrase, "look at what stands between cell and site")
                        raise InputError(f"the site answered {sent.status_code}: {message}", hint=hint)
                    there = str(_read(sent).json()["sums"])
        if there != wanted:
            raise InputError(f"the site has another record {record.name}", hint="compare both: an attempt has one record")

    def withdrawn(self) -> bytes | None:
        """The site's signed list of withdrawn jobs as it lies there; None where there is none."""
        with _reached():
            data = _read(self._client.get("/withdrawn")).content
        return None if data.strip() == b"null" else data


@contextmanager
def _reached() -> Iterator[None]:
    """What ended a connection, and an answer that is none of ours, are Unreachable."""
    try:
        yield
    except httpx.RequestError as error:
        raise Unreachable.of(error) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unreachable(f"the site answered with another document: {error}", hint=_OURS) from error


def _read(answer: httpx.Response) -> httpx.Response:
    code = answer.status_code
    if code < 300:
        return answer
    told = _why(answer)
    message, hint = told or (answer.reason_phrase, _OURS)
    text = f"the site answered {code}: {message}"
    if code >= 500 or code in _AGAIN or told is None:
        raise Unreachable(text, hint=hint)
    raise ClaimLost(text, hint=hint) if code == httpx.codes.GONE else MachineError(text, hint=hint)


def _why(answer: httpx.Response) -> tuple[str, str] | None:
    """What our server says of what it does not do; None: it is another's answer."""
    try:
        told = answer.json()["error"]
        return str(told["message"]), str(told["hint"])
    except (ValueError, KeyError, TypeError):
        return None


def _prove(folder: Path, sums: str) -> None:
    try:
        found = sha256_file(folder / SUMS)
        listed = read_sums((folder / SUMS).read_bytes())
    except (OSError, MachineError) as error:
        raise InputError(f"its list of digests cannot be read: {error}", hint="fetch it again") from error
    if sums not in ("", found):
        raise InputError(f"{SUMS} has another digest than the site said", hint="fetch it again")
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if name not in UNLISTED and sha256_file(path) != listed.get(name):
            raise InputError(f"{name} has another digest than {SUMS} says", hint="fetch it again")


def _blocks(source: Any) -> Iterator[bytes]:
    while block := source.read(1 << 18):
        yield block


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def time_of(text: str) -> dt.datetime:
    """A time that the site told, in UTC."""
    return dt.datetime.fromisoformat(text).astimezone(dt.UTC)
