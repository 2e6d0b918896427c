"""Files of private keys: Ed25519 in OpenSSH's own form (its PROTOCOL.key, 9.2), as ``ssh-keygen`` reads and changes them."""

from __future__ import annotations

import base64
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from batchone.pipeline.disk import reported
from batchone.pipeline.errors import MachineError

_MAGIC = b"openssh-key-v1\0"  # then the name of the cipher, "none" where there is none
KDF_ROUNDS = 16  # of bcrypt, what ssh-keygen takes: about 0.15 s for each guess at the passphrase


def is_protected(private: Path) -> bool:
    """Whether a private key's file is encrypted.

    Raises
    ------
    MachineError
        It is no OpenSSH private key, or cannot be read.
    """
    with reported(f"key {private.name}"):
        lines = private.read_text(encoding="ascii", errors="replace").split()
    try:
        blob = base64.b64decode("".join(lines[4:-4]), validate=True)  # between BEGIN and END OPENSSH PRIVATE KEY
    except ValueError:  # not base64, or not even ASCII
        blob = b""
    if not blob.startswith(_MAGIC):
        raise MachineError(f"key {private.name} is not an OpenSSH private key", hint="restore it from the backup")
    size = int.from_bytes(blob[len(_MAGIC) :][:4], "big")
    return blob[len(_MAGIC) + 4 :][:size] != b"none"


def private_bytes(key: Ed25519PrivateKey, passphrase: str | None) -> bytes:
    """The file of a key, encrypted (bcrypt and AES-256-CTR) where a passphrase is given."""
    how: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase is not None:
        import bcrypt  # noqa: F401 - cryptography needs it here, and says less where it is missing

        builder = serialization.PrivateFormat.OpenSSH.encryption_builder()
        how = builder.kdf_rounds(KDF_ROUNDS).build(passphrase.encode())
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, how)


def private_key(path: Path, passphrase: str | None) -> Ed25519PrivateKey:
    """Read a key's file; ``passphrase`` is None for the keys that sign unattended.

    Raises
    ------
    MachineError
        It is no Ed25519 key in OpenSSH's form, the passphrase is another one, or it is protected though it should not be, or not
        though it should.
    """
    protected = is_protected(path)
    if passphrase is not None and not protected:
        raise MachineError(
            f"key {path.name} is protected by no passphrase and signs nothing", hint=f"protect it: ssh-keygen -p -f {path}"
        )
    if passphrase is None and protected:
        raise MachineError(f"key {path.name} is protected by a passphrase, and none is given", hint="restore it from the backup")
    if passphrase is not None:
        import bcrypt  # noqa: F401 - as above

    try:
        key = serialization.load_ssh_private_key(path.read_bytes(), password=None if passphrase is None else passphrase.encode())
    except (ValueError, TypeError) as error:
        if protected:
            raise MachineError(f"the passphrase does not open key {path.name}", hint="try again, letters count") from error
        raise MachineError(f"key {path.name} is not an OpenSSH private key", hint="restore it from the backup") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise MachineError(f"key {path.name} is not an Ed25519 key", hint="make it with: ssh-keygen -t ed25519")
    return key
