"""``batchone doctor`` at a site: disk, file system, clock, keys, programs, database; each with its limit and what to do."""

from __future__ import annotations

import datetime as dt
import errno
import fcntl
import os
import secrets
import shutil
import tomllib
from collections.abc import Iterator
from pathlib import Path

from batchone.pipeline.config import SETTINGS, read_site_settings
from batchone.pipeline.diagnosis import Check
from batchone.pipeline.errors import MachineError
from batchone.pipeline.events import CASES, EVENTS, last_event
from batchone.pipeline.job.key_file import is_protected
from batchone.pipeline.job.signature import APPROVAL_PREFIX, DEMONSTRATOR, KEYS, RELEASE_KEY

GB = 1e9
LARGE_CASE_GB = 1.0  # project default: voxels, labels and study of a 512x512x400 scan are 0.21 GB each, the rest some tenths
MIN_FREE_GB = 2.0 * LARGE_CASE_GB  # one case that runs, and one that comes in
LOW_FREE_GB = 20.0 * LARGE_CASE_GB  # project default: a day of one PC
MAX_AHEAD_S = 60.0  # project default: events of several machines are kept in order by their clocks; NTP keeps these within 0.1 s
MAX_DATABASE_SKEW_S = 5.0  # project default: reminders and takeover go by the database's clock
PASSWORD_VARIABLE = "BATCHONE_DATABASE_PASSWORD"  # noqa: S105 - the name of a variable
_CONNECT_S = 5  # numerical: doctor stays fast


def diagnose_site(site: Path, *, now: dt.datetime) -> tuple[Check, ...]:
    """Look at a site; nothing of it is changed but for a test file that is removed again.

    Parameters
    ----------
    site
        The site's folder, which exists.
    now
        The time by this machine's clock, with time zone.
    """
    free_gb = shutil.disk_usage(site).free / GB
    checks = [_settings(site), disk_check(free_gb), _file_system(site), _clock(site, now), *_keys(site), *_programs(site)]
    if (url := _database_url(site)) is not None:
        checks.append(_database(url))
    return tuple(checks)


def disk_check(free_gb: float) -> Check:
    """Judge how much of the site's disk is free, GB (1e9 bytes)."""
    text = f"{free_gb:.1f} GB free, at least {MIN_FREE_GB:g} GB (low below {LOW_FREE_GB:g} GB)"
    if free_gb >= LOW_FREE_GB:
        return Check("disk", "ok", text)
    return Check("disk", "broken" if free_gb < MIN_FREE_GB else "warn", text, f"free space, or set [retention] in {SETTINGS}")


def _settings(site: Path) -> Check:
    try:
        read_site_settings(site)
    except MachineError as error:
        return Check("settings", "broken", str(error), error.hint)
    return Check("settings", "ok", f"{SETTINGS} is read" if (site / SETTINGS).is_file() else f"no {SETTINGS}, defaults count")


def _file_system(site: Path) -> Check:
    """Whether the disk does what the store relies on: flush, rename over a file, and a lock that holds."""
    place = site / f".doctor-{secrets.token_hex(8)}.part"
    try:
        place.mkdir()
        one, other = place / "one", place / "other"
        for path in (one, other):
            with path.open("wb") as stream:
                stream.write(path.name.encode())
                stream.flush()
                os.fsync(stream.fileno())
        one.replace(other)
        if other.read_bytes() != b"one" or one.exists():
            return Check("file system", "broken", "a file that was renamed over another is not there", _OTHER_DISK)
        if not _lock_holds(other):
            return Check("file system", "broken", "a lock (flock) does not hold against a second writer", _OTHER_DISK)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        hint = "free space" if full else "check the folder's rights and the disk"
        return Check("file system", "broken", f"{error.strerror or error}", hint)
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return Check("file system", "ok", "write, flush, rename and lock work")


_OTHER_DISK = "keep the site on a local disk, or on NFS 4 with locks"


def _lock_holds(path: Path) -> bool:
    with path.open("rb") as one, path.open("rb") as other:
        fcntl.flock(one, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _clock(site: Path, now: dt.datetime) -> Check:
    event = last_event(site / EVENTS)
    if event is None:
        return Check("clock", "ok", "the site has no events yet")
    try:
        ahead_s = (dt.datetime.fromisoformat(event.when) - now).total_seconds()
    except (ValueError, TypeError):
        return Check("clock", "broken", f"the last event of the site has no time ({event.when!r})", "run `batchone audit`")
    if ahead_s <= MAX_AHEAD_S:
        return Check("clock", "ok", f"the last event is {max(0.0, -ahead_s):.0f} s old")
    text = f"this clock is {ahead_s:.0f} s behind the site's last event, at most {MAX_AHEAD_S:g} s"
    return Check("clock", "broken", text, "set the clock by NTP (timedatectl set-ntp true), then look at the last events")


def _keys(site: Path) -> Iterator[Check]:
    keys = site / KEYS
    if not keys.is_dir():
        used = any((site / CASES).glob("*"))
        hint = "restore them from the backup: new ones sign otherwise"
        yield Check("keys", "broken", "there are cases and no keys", hint) if used else Check("keys", "ok", "none yet")
        return
    if (mode := keys.stat().st_mode & 0o777) & 0o077:
        yield Check("keys", "broken", f"the folder has mode {mode:04o}, at most 0700", f"chmod 700 {keys}")
    if not (keys / RELEASE_KEY).is_file():
        yield Check("keys", "broken", "the release key is missing", "restore it from the backup: a new one signs otherwise")
    for path in sorted(keys.glob("*.pub")):
        yield _key(path.with_suffix(""))


def _key(private: Path) -> Check:
    name = f"key {private.name}"
    try:
        mode = private.stat().st_mode & 0o777
        protected = is_protected(private)
    except (OSError, MachineError) as error:
        return Check(name, "broken", f"its private half cannot be read ({error})", "restore it from the backup")
    if mode & 0o077:
        return Check(name, "broken", f"has mode {mode:04o}, at most 0600", f"chmod 600 {private}")
    if private.name == APPROVAL_PREFIX + DEMONSTRATOR:
        return Check(name, "ok", "signs demonstrations alone")
    if private.name.startswith(APPROVAL_PREFIX) and not protected:
        return Check(name, "broken", "no passphrase protects it, so it signs nothing", f"ssh-keygen -p -f {private}")
    if private.name == RELEASE_KEY and protected:
        return Check(name, "broken", "a passphrase protects it, and it must sign unattended", f"ssh-keygen -p -N '' -f {private}")
    return Check(name, "ok", "protected by a passphrase" if protected else "signs unattended")


def _programs(site: Path) -> Iterator[Check]:
    try:
        backend = read_site_settings(site).segmentation
    except MachineError:
        return  # said by the check of the settings
    if backend.backend == "external" and backend.external is not None:
        program = backend.external.program[0]
        found = shutil.which(program) is not None
        hint = "" if found else f"install it, or correct [segmentation.external] of {SETTINGS}"
        yield Check("segmentation", "ok" if found else "broken", f"{program} is {'there' if found else 'not there'}", hint)


def _database_url(site: Path) -> str | None:
    """``[engine] database`` of the site's settings where it names PostgreSQL."""
    try:
        url = tomllib.loads((site / SETTINGS).read_text(encoding="utf-8")).get("engine", {}).get("database", "")
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError, AttributeError):
        return None
    return url if isinstance(url, str) and url.startswith("postgres") else None


def _database(url: str) -> Check:
    import psycopg

    password = os.environ.get(PASSWORD_VARIABLE)
    try:
        with psycopg.connect(url, connect_timeout=_CONNECT_S, password=password or None) as connection:
            before = dt.datetime.now(dt.UTC)
            row = connection.execute("SELECT clock_timestamp(), current_setting('server_version')").fetchone()
            after = dt.datetime.now(dt.UTC)
    except psycopg.Error as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return Check("database", "broken", f"cannot be reached ({reason})", "start PostgreSQL; cases go on where they stopped")
    assert row is not None
    return database_check(str(row[1]), (row[0] - (before + (after - before) / 2)).total_seconds())


def database_check(version: str, skew_s: float) -> Check:
    """Judge how far PostgreSQL's clock is ahead of ours, s."""
    text = f"PostgreSQL {version}, its clock is {skew_s:+.1f} s from ours, at most {MAX_DATABASE_SKEW_S:g} s"
    if abs(skew_s) > MAX_DATABASE_SKEW_S:
        return Check("database", "broken", text, "set both clocks by NTP")
    return Check("database", "ok", text)
