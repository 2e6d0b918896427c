"""The hospital's keep: the secret that makes pseudonyms, and the encrypted table that leads back from them.

It stays on the hospital's side. The re-link table is sealed case by case with AES-256-GCM (NIST SP 800-38D); the key comes
from the secret by HKDF (RFC 5869), or from a passphrase and the secret by scrypt (RFC 7914), so that the folder alone opens
nothing.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import secrets
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from batchone.pipeline.disk import reported, waited_for, write_once, write_over
from batchone.pipeline.errors import InputError, MachineError
from batchone.pipeline.values import Identity

FOLDER_VARIABLE = "BATCHONE_HOSPITAL"
PASSPHRASE_VARIABLE = "BATCHONE_HOSPITAL_PASSPHRASE"  # noqa: S105 - the name of the variable, not its value
DEFAULT_FOLDER = Path("batchone-hospital")

SECRET_BYTES = 32  # 256 bit, as long as the keys that are derived from it
_NONCE_BYTES = 12  # NIST SP 800-38D, 8.2: the length for which AES-GCM is defined without a further hash
_SCRYPT_N, _SCRYPT_R, _SCRYPT_P = 1 << 15, 8, 1  # RFC 7914: 32 MB and about 0.1 s for each guess at the passphrase
_MAGIC = b"batchone relink 1\n"
_BY_SECRET, _BY_PASSPHRASE = b"secret\n", b"phrase\n"
_CASE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True, repr=False)
class Relink:
    """What leads one case back to its patient.

    Attributes
    ----------
    uids
        Pairs (UID in the parcel, original) of every UID that was replaced.
    attributes
        Pairs (DICOM keyword, original value) of the patient and study, to be put back into what returns.
    date_shift_days
        Whole days that were added to the dates in the parcel, at most -1: original = parcel - shift.
    """

    case: str
    identity: Identity
    uids: tuple[tuple[str, str], ...]
    attributes: tuple[tuple[str, str], ...]
    date_shift_days: int


def keep_folder(option: Path | None) -> Path:
    """Where the keep lies: the option, else ``$BATCHONE_HOSPITAL``, else ``./batchone-hospital``."""
    return option or Path(os.environ.get(FOLDER_VARIABLE) or DEFAULT_FOLDER)


class Keep:
    """The hospital's own folder; made by :meth:`open`.

    Attributes
    ----------
    folder
        Holds ``secret.key``, ``relink/`` and ``outbox/``; nobody but its owner may enter.
    secret
        Makes every pseudonym of this hospital; never leaves it.
    """

    def __init__(self, folder: Path, secret: bytes, passphrase: str) -> None:
        self.folder = folder
        self.secret = secret
        self._passphrase = passphrase
        self._keys: dict[bytes, bytes] = {}

    @classmethod
    def open(cls, folder: Path) -> Keep:
        """Open a keep, and make it on first use.

        Raises
        ------
        MachineError
            The folder or the secret cannot be made or read, is damaged, or is open to other users.
        """
        secret_file = folder / "secret.key"
        with reported("the hospital's keep"):
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            (folder / "relink").mkdir(exist_ok=True, mode=0o700)
            (folder / "outbox").mkdir(exist_ok=True, mode=0o700)
            if not secret_file.exists():
                _refuse_orphans(folder)
                write_once(secret_file, secrets.token_hex(SECRET_BYTES).encode() + b"\n", mode=0o600)
            text = secret_file.read_bytes().strip()
        _refuse_open(folder, 0o700)
        _refuse_open(secret_file, 0o600)
        if not re.fullmatch(rb"[0-9a-f]{%d}" % (2 * SECRET_BYTES), text):
            raise MachineError(
                f"the hospital's secret.key has {len(text)} characters, must be {2 * SECRET_BYTES} hexadecimal digits",
                hint="put the keep's secret.key back from a backup",
            )
        return cls(folder, bytes.fromhex(text.decode()), os.environ.get(PASSPHRASE_VARIABLE, ""))

    @property
    def outbox(self) -> Path:
        """Where parcels wait."""
        return self.folder / "outbox"

    def derived(self, purpose: str) -> bytes:
        """A key of 256 bit for one purpose (HKDF-SHA256 of the secret)."""
        return HKDF(SHA256(), SECRET_BYTES, salt=None, info=f"batchone/{purpose}/1".encode()).derive(self.secret)

    def remember(self, relink: Relink) -> None:
        """Seal what leads a case back; more images of the same study are added to what is already known.

        Raises
        ------
        InputError
            The case is known with another study.
        MachineError
            What is known of the case does not open, or the disk is full.
        """
        with self._locked():
            known = self.recall(relink.case)
            if known is not None:
                relink = _merged(known, relink)
            if relink != known:
                with reported("the re-link table"):
                    write_over(self._place(relink.case), self._sealed(relink), mode=0o600)

    def recall(self, case: str) -> Relink | None:
        """What leads a case back; None when the case is not known here.

        Raises
        ------
        MachineError
            It does not open: another secret or passphrase, or changed bytes.
        """
        place = self._place(case)
        try:
            with reported("the re-link table"):
                sealed = place.read_bytes() if place.exists() else None
        except MachineError:
            raise
        return None if sealed is None else self._opened(case, sealed)

    def _place(self, case: str) -> Path:
        if not _CASE.fullmatch(case):
            raise InputError(
                "the case id is not valid, must be at most 64 letters, digits, dots, hyphens and underscores",
                hint="give the case id of the order",
            )
        return self.folder / "relink" / f"{case}.sealed"

    def _sealed(self, relink: Relink) -> bytes:
        head = _MAGIC + (_BY_PASSPHRASE if self._passphrase else _BY_SECRET)
        nonce = secrets.token_bytes(_NONCE_BYTES)
        text = json.dumps(dataclasses.asdict(relink), ensure_ascii=False, sort_keys=True).encode()
        return head + nonce + AESGCM(self._key(head)).encrypt(nonce, text, head + relink.case.encode())

    def _opened(self, case: str, sealed: bytes) -> Relink:
        head = sealed[: len(_MAGIC) + len(_BY_SECRET)]
        if head == _MAGIC + _BY_PASSPHRASE and not self._passphrase:
            raise MachineError(
                f"the re-link table of case {case} is sealed with a passphrase, none is set",
                hint=f"set ${PASSPHRASE_VARIABLE}",
            )
        start = len(head) + _NONCE_BYTES
        try:
            if head not in (_MAGIC + _BY_PASSPHRASE, _MAGIC + _BY_SECRET):
                raise InvalidTag
            text = AESGCM(self._key(head)).decrypt(sealed[len(head) : start], sealed[start:], head + case.encode())
        except (InvalidTag, ValueError):
            raise MachineError(
                f"the re-link table of case {case} does not open: another secret or passphrase, or its bytes were changed",
                hint="use the keep and the passphrase that sealed it, or put it back from a backup",
            ) from None
        return _parsed(json.loads(text))

    def _key(self, head: bytes) -> bytes:
        if head not in self._keys:
            if head.endswith(_BY_PASSPHRASE):
                rule = Scrypt(salt=self.derived("salt"), length=SECRET_BYTES, n=_SCRYPT_N, r=_SCRYPT_R, p=_SCRYPT_P)
                self._keys[head] = rule.derive(self._passphrase.encode())
            else:
                self._keys[head] = self.derived("relink")
        return self._keys[head]

    def _locked(self) -> AbstractContextManager[None]:
        return waited_for(self.folder, "the hospital's keep")


def _refuse_open(path: Path, mode: int) -> None:
    found = path.stat().st_mode & 0o777
    if found & ~mode:
        raise MachineError(
            f"{path.name} of the hospital's keep has mode {found:04o}, at most {mode:04o}: other users could read identities",
            hint=f"chmod {mode:o} it, and ask who could read it until now",
        )


def _refuse_orphans(folder: Path) -> None:
    """A keep that sealed something must not get a new secret: nothing would ever open again."""
    sealed = sum(1 for _ in (folder / "relink").glob("*.sealed"))
    if sealed:
        raise MachineError(
            f"the keep has {sealed} sealed cases but no secret.key", hint="put the keep's secret.key back from a backup"
        )


def _merged(known: Relink, new: Relink) -> Relink:
    if known.identity.study_instance_uid != new.identity.study_instance_uid:
        raise InputError(
            f"case {new.case} was already sent with another study, at most 1 study a case",
            hint="give the order of the new study another case id",
        )
    uids = dict(known.uids) | dict(new.uids)
    instances = tuple(dict.fromkeys((*known.identity.instance_uids, *new.identity.instance_uids)))
    return dataclasses.replace(
        new, uids=tuple(sorted(uids.items())), identity=dataclasses.replace(new.identity, instance_uids=instances)
    )


def _parsed(tree: dict[str, object]) -> Relink:
    identity = tree["identity"]
    uids, attributes = tree["uids"], tree["attributes"]
    assert isinstance(identity, dict)
    assert isinstance(uids, list)
    assert isinstance(attributes, list)
    identity["instance_uids"] = tuple(identity["instance_uids"])
    return Relink(
        case=str(tree["case"]),
        identity=Identity(**identity),
        uids=tuple((str(new), str(old)) for new, old in uids),
        attributes=tuple((str(keyword), str(value)) for keyword, value in attributes),
        date_shift_days=int(str(tree["date_shift_days"])),
    )
