"""A cell's site over its server's API: jobs by the ledger there, steps and records back. What cannot be reached is asked again.

The cell is an account of the server with the role ``cell`` and the cell's own name. An answer that was lost on the way does no
harm: each question may be asked again, and then changes nothing.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

from batchone.factory.inbox import ClaimLost, Unreachable
from batchone.factory.reports import REMAKE, Report
from batchone.factory.zip_folder import pack, unpack
from batchone.pipeline.errors import InputError, MachineError
from batchone.pipeline.job.sums import SUMS, UNLISTED, read_sums
from batchone.pipeline.store import sha256_file

MOST_JOB_BYTES: Final = 4_000_000_000  # project default: a plate with its layers has some 100 MB
_CONNECT_S, _ANSWER_S = 5.0, 120.0
_TRIES = 3  # of a download that breaks off while the server answers
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
        self._shelved: set[str] = set()  # records of which the site said that it has them
        self._client = httpx.Client(
            base_url=f"{url.rstrip('/')}/api/v1",
            headers={"Authorization": f"Bearer {token}"},
            verify=tls,
            timeout=httpx.Timeout(_ANSWER_S, connect=_CONNECT_S),
            limits=httpx.Limits(max_keepalive_connections=0),  # none that a server which was started again would not know
            follow_redirects=False,
        )

    def asked(self, method: str, path: str, tree: dict[str, Any] | None = None) -> Any:
        """The document of an answer.

        Raises
        ------
        Unreachable
            The site does not answer now, or lets the cell do nothing: nothing was decided.
        ClaimLost
            410.
        MachineError
            The site refuses it.
        """
        with _reached():
            return _read(self._client.request(method, path, json=tree)).json()

    def account(self) -> str:
        """The name under which the site knows the cell."""
        return str(self.asked("GET", "/me")["name"])

    def fetch(self, path: str, place: Path, *, sums: str = "") -> None:
        """Make ``place`` of a job, or of what says what it is; each file has the digest that the job's own list gives.

        Parameters
        ----------
        sums
            SHA-256 of that list, where it is known.

        Raises
        ------
        MachineError
            As :meth:`asked`; or it came with another content, or broken several times.
        """
        for tries in range(1, _TRIES + 1):
            try:
                self._fetch(path, place, sums)
            except (httpx.RemoteProtocolError, httpx.ReadError, InputError) as error:  # asked again: is the site there at all?
                self.account()
                if tries == _TRIES:
                    raise MachineError(f"{place.name} does not come whole: {error}", hint="look at the site's disk") from error
            else:
                return

    def _fetch(self, path: str, place: Path, sums: str) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=".fetched-") as folder:
            file, came = Path(folder) / "job.zip", Path(folder) / place.name
            try:
                with self._client.stream("GET", path) as answer, file.open("wb") as sink:
                    if answer.status_code != httpx.codes.OK:
                        answer.read()
                    for block in _read(answer).iter_bytes():
                        sink.write(block)
            except (httpx.RemoteProtocolError, httpx.ReadError):
                raise
            except httpx.TransportError as error:
                raise Unreachable.of(error) from error
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
            answer = self._client.post(path, json=tree)
            if answer.status_code in (404, 409, 422):
                message, hint = _why(answer)
                raise InputError(message, hint=hint)
            _read(answer)

    def shelve(self, record: Path) -> None:
        """Bring a closed record to the site's shelf, where it is not there yet.

        Raises
        ------
        MachineError
            As :meth:`asked`; or another one lies there.
        """
        if record.name in self._shelved:
            return
        wanted = sha256_file(record / SUMS)
        with _reached():
            answer = self._client.get(f"/records/{record.name}")
        there = "" if answer.status_code == httpx.codes.NOT_FOUND else str(_read(answer).json()["sums"])
        if not there:
            with tempfile.TemporaryDirectory(prefix="batchone-record-") as folder, _reached():
                file = Path(folder) / "record.zip"
                pack(record, file)
                with file.open("rb") as source:
                    sent = self._client.put(f"/records/{record.name}", content=_blocks(source))
                there = str(_read(sent).json()["sums"])
        if there != wanted:
            raise MachineError(f"the site has another record {record.name}", hint="compare both: an attempt has one record")
        self._shelved.add(record.name)

    def withdrawn(self) -> bytes | None:
        """The site's signed list of withdrawn jobs as it lies there; None where there is none."""
        with _reached():
            data = _read(self._client.get("/withdrawn")).content
        return None if data.strip() == b"null" else data


@contextmanager
def _reached() -> Iterator[None]:
    try:
        yield
    except httpx.TransportError as error:
        raise Unreachable.of(error) from error


def _read(answer: httpx.Response) -> httpx.Response:
    code = answer.status_code
    if code < 300:
        return answer
    message, hint = _why(answer)
    text = f"the site answered {code}: {message}"
    if code >= 500 or code in _AGAIN or code < 400:
        raise Unreachable(text, hint=hint)
    raise ClaimLost(text, hint=hint) if code == httpx.codes.GONE else MachineError(text, hint=hint)


def _why(answer: httpx.Response) -> tuple[str, str]:
    try:
        told = answer.json()["error"]
        return str(told["message"]), str(told["hint"])
    except (ValueError, KeyError, TypeError):
        return answer.reason_phrase, "is [site] url the address of a batchone server?"


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
