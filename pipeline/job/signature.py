"""Site keys and SSH signatures: Ed25519, in the formats of OpenSSH.

Formats: PROTOCOL.key, PROTOCOL.sshsig and ssh-keygen(1) of OpenSSH 9.2. Stock ``ssh-keygen -Y verify`` accepts what :func:`sign`
writes; :func:`verify` is stricter than it, because OpenSSH accepts other spellings of one signature (line breaks, padding).
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import hashlib
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from batchone.pipeline.disk import reported, write_once, write_over
from batchone.pipeline.errors import MachineError
from batchone.pipeline.events import EVENTS, append_event
from batchone.pipeline.job.key_file import private_bytes, private_key
from batchone.pipeline.job.passphrase import find_passphrase, refuse_short
from batchone.pipeline.values import Approval, Waiver

RELEASE = "jobfolder"  # SSHSIG namespace of a released job folder
APPROVAL = "batchone-approval"  # SSHSIG namespace of a person's word on a device
DEMONSTRATION = "batchone-approval-demonstration"  # its own namespace, so that the mark cannot be taken off
WAIVER = "batchone-waiver"  # SSHSIG namespace of a person's word that a failed finding may stand
DECISION = "batchone-decision"  # SSHSIG namespace of a person's word that a case ends, or is opened again
WITHDRAWN = "batchone-withdrawn"  # SSHSIG namespace of a site's list of jobs that count no more
HANDOVER = "batchone-handover"  # SSHSIG namespace of a parcel with which a site hands a case over to another
KEYS = "keys"  # folder of a site
RELEASE_KEY = "release"  # file name of the site's release key
APPROVAL_PREFIX = "approval-"  # file name of a person's key: this and the name
DEMONSTRATOR = "demo"  # signs demonstrations alone, with a key that no passphrase protects

_ALGORITHM = b"ssh-ed25519"
_MAGIC = b"SSHSIG"
_HASH = b"sha512"  # what ssh-keygen -Y sign uses unless told otherwise
_LINE = 70  # characters of base64 in a line of ssh-keygen's armour
_BEGIN, _END = "-----BEGIN SSH SIGNATURE-----", "-----END SSH SIGNATURE-----"
_MAX_SIGNATURE_CHARACTERS = 2_000  # an Ed25519 SSHSIG has about 300
_MAX_SIGNERS_BYTES = 1_000_000
_RAW_KEY_BYTES, _RAW_SIGNATURE_BYTES = 32, 64  # RFC 8032
_EMBEDDED = "embedded key"  # holds a space, so no line of allowed_signers can bear this name
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
_SIGNER_LINE = re.compile(
    r'(?P<who>[^\s"#]+)\s+(?:namespaces="(?P<spaces>[^"]*)"\s+)?ssh-ed25519\s+(?P<key>[A-Za-z0-9+/=]+)(?:\s.*)?'
)


@dataclass(frozen=True, slots=True)
class SiteKey:
    """A signing key: its name (the principal in ``allowed_signers``), its private half, its public line in OpenSSH form."""

    name: str
    private: Ed25519PrivateKey = field(repr=False)
    public_key: str

    @property
    def signer(self) -> Signer:
        """Who verifies what it signs, in every namespace."""
        return Signer(self.name, _raw_public(self.private.public_key()))


@dataclass(frozen=True, slots=True)
class Signer:
    """One line of an ``allowed_signers`` file; no namespaces means every namespace, as in OpenSSH."""

    name: str
    raw_key: bytes
    namespaces: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """Of the key, as ``ssh-keygen -l`` shows it."""
        digest = hashlib.sha256(_key_blob(self.raw_key)).digest()
        return "SHA256:" + base64.b64encode(digest).decode("ascii").rstrip("=")


def load_or_make_key(keys: Path, name: str, *, passphrase: str | None = None) -> SiteKey:
    """Read the key ``name`` from the site's key folder; make it on first use, which the site's events tell.

    The private half is an OpenSSH file of mode 0600, encrypted where a passphrase is given (bcrypt, 16 rounds, as ssh-keygen
    does); it appears whole or not at all, also when two processes make it at once.

    Raises
    ------
    MachineError
        The folder cannot be written, others may read the key, it is not an Ed25519 key, no passphrase protects it though one is
        given, or another one does.
    """
    stem = safe_name(name)
    path = keys / stem
    with reported(f"key {stem}"):
        if not path.exists():
            keys.mkdir(parents=True, exist_ok=True, mode=0o700)
            made = Ed25519PrivateKey.generate()
            write_once(path, private_bytes(made, passphrase), mode=0o600)
            _tell(keys, stem, _public_line(made.public_key(), stem))
        mode = path.stat().st_mode & 0o777
        if mode & 0o077:
            raise MachineError(
                f"key {stem} has file mode {mode:04o}, at most 0600", hint=f"chmod 600 the file {stem} in the key folder"
            )
        key = SiteKey(stem, private_key(path, passphrase), "")
        key = replace(key, public_key=_public_line(key.private.public_key(), stem))
        write_over(keys / f"{stem}.pub", (key.public_key + "\n").encode(), mode=0o644)
    return key


def release_key(keys: Path) -> SiteKey:
    """The site's release key; see :func:`load_or_make_key`."""
    return load_or_make_key(keys, RELEASE_KEY)


def approval_key(keys: Path, name: str, *, passphrase: str | None = None) -> SiteKey:
    """The key with which the person ``name`` approves, opened by the second component of their signature (21 CFR 11.200).

    Without ``passphrase`` it is that of :func:`approver_passphrase`. The key of :data:`DEMONSTRATOR` has none.

    Raises
    ------
    MachineError
        As :func:`load_or_make_key`; or there is no passphrase, or one that is too short.
    """
    stem = APPROVAL_PREFIX + name
    if name == DEMONSTRATOR:
        return load_or_make_key(keys, stem)
    if passphrase is None:
        passphrase = approver_passphrase(keys, name)
    refuse_short(passphrase, name)
    return load_or_make_key(keys, stem, passphrase=passphrase)


def change_approval_passphrase(keys: Path, name: str, old: str, new: str) -> None:
    """Let another passphrase protect the key of an approver; nothing happens where there is no key, or ``old`` does not open it.

    Raises
    ------
    MachineError
        The key folder cannot be written.
    """
    path = keys / safe_name(APPROVAL_PREFIX + name)
    if name == DEMONSTRATOR or not path.exists():
        return
    with contextlib.suppress(MachineError):  # a passphrase of its own: that one stays
        key = private_key(path, old)
        with reported(path.name):
            write_over(path, private_bytes(key, new), mode=0o600)


def approver_passphrase(keys: Path, name: str) -> str:
    """The passphrase of a person's key, from the environment or asked for, twice for a new key: :func:`find_passphrase`."""
    return find_passphrase(name, new=not (keys / safe_name(APPROVAL_PREFIX + name)).exists())


def safe_name(name: str) -> str:
    """Turn a name into a file name that is also a principal; other spellings of one name stay apart by a digest."""
    if _SAFE_NAME.fullmatch(name):
        return name
    plain = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:40] or "key"
    return f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def sign(key: SiteKey, message: bytes, *, namespace: str) -> str:
    """Sign as ``ssh-keygen -Y sign -n NAMESPACE`` does; the same key and message give the same characters."""
    signature = key.private.sign(_signed_bytes(message, namespace))
    return _armour(_raw_public(key.private.public_key()), signature, namespace)


def verify(signature: str, message: bytes, *, namespace: str, allowed: Sequence[Signer]) -> str:
    """Check an armoured signature character by character, and say whose it is.

    Returns
    -------
    str
        The name of the signer.

    Raises
    ------
    MachineError
        Not the one canonical spelling, another namespace, a key that is not allowed, or another message.
    """
    raw_key, raw_signature = _parts(signature)
    if _armour(raw_key, raw_signature, namespace) != signature:
        raise MachineError(f"signature is not the canonical one for {namespace!r}", hint="fetch the file again from its sender")
    names = [s.name for s in allowed if s.raw_key == raw_key and (not s.namespaces or namespace in s.namespaces)]
    if not names:
        raise MachineError(f"signature is by a key that is not allowed to sign {namespace!r}", hint="check allowed_signers")
    try:
        Ed25519PublicKey.from_public_bytes(raw_key).verify(raw_signature, _signed_bytes(message, namespace))
    except (InvalidSignature, ValueError) as error:
        raise MachineError("signature does not fit what it signs", hint="the content was changed after signing") from error
    return names[0]


def embedded_signer(signature: str) -> Signer:
    """Whoever a signature says it is by: proves wholeness, not origin.

    Raises
    ------
    MachineError
        Not an Ed25519 SSH signature.
    """
    return Signer(_EMBEDDED, _parts(signature)[0])


def fingerprint(key: str | bytes) -> str:
    """The fingerprint of a public key (its line, or its 32 bytes) as ``ssh-keygen -l`` prints it."""
    raw = _raw_of_line(key) if isinstance(key, str) else key
    return "SHA256:" + base64.b64encode(hashlib.sha256(_key_blob(raw)).digest()).decode().rstrip("=")


def sign_approval(approval: Approval, key: SiteKey) -> Approval:
    """Return the approval with the key's public half and its signature over :meth:`Approval.text`.

    Raises
    ------
    MachineError
        A line break or another control character in name, meaning, digest or checklist: it could fake a line of the text. Or the
        demonstrator is to sign what is not marked as a demonstration.
    """
    if approval.name == DEMONSTRATOR and not approval.demonstration:
        raise MachineError(f"{DEMONSTRATOR} signs demonstrations alone", hint="approve under your own name")
    points = [("point of the checklist", ": ".join(point)) for point in approval.checklist]
    for what, text in (("name", approval.name), ("meaning", approval.meaning), ("digest", approval.digest), *points):
        if not text.strip() or not text.isprintable():
            raise MachineError(f"approval {what} is {text!r}, must be one line of printable text", hint="write it in plain words")
    namespace = DEMONSTRATION if approval.demonstration else APPROVAL
    return replace(approval, public_key=key.public_key, signature=sign(key, approval.text(), namespace=namespace))


def verify_approval(approval: Approval, allowed: Path | Sequence[Signer]) -> None:
    """Check an approval's signature; ``allowed`` is the site's key folder, an ``allowed_signers`` file, or its signers.

    Raises
    ------
    MachineError
        The signature is missing, by another key than the approval names, by a key that is not that person's or not allowed,
        or over other words.
    """
    signers = tuple(allowed) if not isinstance(allowed, Path) else signers_at(allowed)
    own = (safe_name(APPROVAL_PREFIX + approval.name), _EMBEDDED)  # nobody approves in another's name
    signers = tuple(signer for signer in signers if signer.name in own)
    namespace = DEMONSTRATION if approval.demonstration else APPROVAL
    verify(approval.signature, approval.text(), namespace=namespace, allowed=signers)
    if embedded_signer(approval.signature).raw_key != _raw_of_line(approval.public_key):
        raise MachineError("approval names another public key than the one that signed it", hint="approve again")


def sign_waiver(waiver: Waiver, key: SiteKey) -> Waiver:
    """Return the waiver with the key's public half and its signature; raises as :func:`sign_approval` does."""
    if waiver.name == DEMONSTRATOR:
        raise MachineError(f"{DEMONSTRATOR} waives nothing", hint="waive under your own name")
    for what, text in (
        ("name", waiver.name),
        ("meaning", waiver.meaning),
        ("reason", waiver.reason),
        ("finding", waiver.finding),
    ):
        if not text.strip() or not text.isprintable():
            raise MachineError(f"waiver {what} is {text!r}, must be one line of printable text", hint="write it in plain words")
    waiver = replace(waiver, public_key=key.public_key)
    return replace(waiver, signature=sign(key, waiver.text(), namespace=WAIVER))


def verify_waivers(approval: Approval, allowed: Path | Sequence[Signer]) -> None:
    """Check that each waiver of an approval is for its device, and signed by the person it names.

    Raises
    ------
    MachineError
        For another device, or as :func:`verify_approval` does.
    """
    for waiver in approval.waivers:
        if waiver.digest != approval.digest:
            raise MachineError("a waiver is for another device than the approval", hint="waive and approve again")
        verify_waiver(waiver, allowed)


def verify_waiver(waiver: Waiver, allowed: Path | Sequence[Signer]) -> None:
    """Check a waiver's signature; ``allowed`` and what is raised as in :func:`verify_approval`."""
    signers = tuple(allowed) if not isinstance(allowed, Path) else signers_at(allowed)
    own = (safe_name(APPROVAL_PREFIX + waiver.name), _EMBEDDED)
    verify(waiver.signature, waiver.text(), namespace=WAIVER, allowed=tuple(s for s in signers if s.name in own))
    if embedded_signer(waiver.signature).raw_key != _raw_of_line(waiver.public_key):
        raise MachineError("waiver names another public key than the one that signed it", hint="waive again")


def write_allowed_signers(keys: Path) -> Path:
    """Write ``allowed_signers`` from the public halves in the key folder, sorted by name; return its path.

    Raises
    ------
    MachineError
        A public key is not readable, or the folder cannot be written.
    """
    lines = []
    with reported("allowed_signers"):
        for path in sorted(keys.glob("*.pub")):
            people = path.stem.startswith(APPROVAL_PREFIX)
            spaces = f"{APPROVAL},{DEMONSTRATION},{WAIVER},{DECISION}" if people else f"{RELEASE},{WITHDRAWN},{HANDOVER}"
            if path.stem == APPROVAL_PREFIX + DEMONSTRATOR:
                spaces = DEMONSTRATION
            blob = base64.b64encode(_key_blob(_raw_of_line(path.read_text(encoding="utf-8")))).decode()
            lines.append(f'{safe_name(path.stem)} namespaces="{spaces}" ssh-ed25519 {blob}\n')
        write_over(keys / "allowed_signers", "".join(lines).encode(), mode=0o644)
    return keys / "allowed_signers"


def read_allowed_signers(path: Path) -> tuple[Signer, ...]:
    """Read an ``allowed_signers`` file; of its options only ``namespaces`` is known.

    Raises
    ------
    MachineError
        Not readable, or a line that is not understood: a rule that is not understood must not be skipped.
    """
    with reported("allowed_signers"):
        data = path.read_bytes()[: _MAX_SIGNERS_BYTES + 1]
    if len(data) > _MAX_SIGNERS_BYTES:
        raise MachineError(f"allowed_signers has more than {_MAX_SIGNERS_BYTES} bytes", hint="is this the right file?")
    signers = []
    for number, line in enumerate(data.decode("utf-8", errors="replace").splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _SIGNER_LINE.fullmatch(line.strip())
        if match is None:
            raise MachineError(
                f"allowed_signers line {number} is not understood", hint='write: NAME namespaces="jobfolder" ssh-ed25519 KEY'
            )
        spaces = tuple(s for s in (match["spaces"] or "").split(",") if s)
        signers += [Signer(who, _raw_of_line(f"ssh-ed25519 {match['key']}"), spaces) for who in match["who"].split(",")]
    return tuple(signers)


def signers_at(path: Path) -> tuple[Signer, ...]:
    """Who may sign, by an ``allowed_signers`` file, or by a site's key folder."""
    if path.is_dir():
        return read_allowed_signers(write_allowed_signers(path))
    return read_allowed_signers(path)


def _string(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _key_blob(raw_key: bytes) -> bytes:
    return _string(_ALGORITHM) + _string(raw_key)


def _signed_bytes(message: bytes, namespace: str) -> bytes:
    digest = hashlib.sha512(message).digest()
    return _MAGIC + _string(namespace.encode()) + _string(b"") + _string(_HASH) + _string(digest)


def _armour(raw_key: bytes, raw_signature: bytes, namespace: str) -> str:
    inner = _string(_ALGORITHM) + _string(raw_signature)
    parts = (_key_blob(raw_key), namespace.encode(), b"", _HASH, inner)
    text = base64.b64encode(_MAGIC + struct.pack(">I", 1) + b"".join(map(_string, parts))).decode()
    lines = [text[start : start + _LINE] for start in range(0, len(text), _LINE)]
    return "\n".join([_BEGIN, *lines, _END]) + "\n"


def _parts(signature: str) -> tuple[bytes, bytes]:
    """The raw public key and raw signature in an armoured text; any spelling that decodes, canonical or not."""
    fault = MachineError("signature is not an Ed25519 SSH signature", hint="fetch the file again from its sender")
    lines = signature[:_MAX_SIGNATURE_CHARACTERS].strip().splitlines()
    if len(lines) < 3 or lines[0] != _BEGIN or lines[-1] != _END:
        raise fault
    try:
        blob = base64.b64decode("".join(lines[1:-1]), validate=True)
    except ValueError as error:  # not base64, or not even ASCII
        raise fault from error
    prefix = _MAGIC + struct.pack(">I", 1)
    fields = _strings(blob[len(prefix) :]) if blob.startswith(prefix) else ()
    key = _strings(fields[0]) if len(fields) == 5 else ()
    inner = _strings(fields[4]) if len(fields) == 5 else ()
    if len(key) != 2 or len(inner) != 2 or len(key[1]) != _RAW_KEY_BYTES or len(inner[1]) != _RAW_SIGNATURE_BYTES:
        raise fault
    return key[1], inner[1]


def _strings(data: bytes) -> tuple[bytes, ...]:
    """All length-prefixed strings in data; () when it does not end with one."""
    found = []
    while data:
        length = int.from_bytes(data[:4], "big")
        if len(data) < 4 + length:
            return ()
        found.append(data[4 : 4 + length])
        data = data[4 + length :]
    return tuple(found)


def _raw_public(key: Ed25519PublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def _raw_of_line(line: str) -> bytes:
    words = line.split()
    try:
        fields = _strings(base64.b64decode(words[1], validate=True)) if len(words) > 1 else ()
    except ValueError:
        fields = ()
    if len(fields) != 2 or fields[0] != _ALGORITHM or len(fields[1]) != _RAW_KEY_BYTES:
        raise MachineError("public key is not an Ed25519 key in OpenSSH form", hint="see ssh-keygen(1), type ed25519")
    return fields[1]


def _public_line(key: Ed25519PublicKey, comment: str) -> str:
    return f"ssh-ed25519 {base64.b64encode(_key_blob(_raw_public(key))).decode()} {comment}"


def _tell(keys: Path, stem: str, public_line: str) -> None:
    """Tell the events of the site that a key was made; a key folder of another name lies in no site."""
    if keys.name == KEYS:
        when, digest = dt.datetime.now(dt.UTC).isoformat(), hashlib.sha256(public_line.encode()).hexdigest()
        append_event(keys.parent / EVENTS, who="batchone", what=f"key made: {stem}", when=when, digest=digest)
