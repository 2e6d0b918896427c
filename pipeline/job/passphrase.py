"""The passphrase of an approver's key: from the environment or a terminal, and how long it must be."""

from __future__ import annotations

import getpass
import os
import sys

from batchone.pipeline.errors import MachineError

VARIABLE = "BATCHONE_APPROVER_PASSPHRASE"
MIN_CHARACTERS = 8  # NIST SP 800-63B-4, 3.1.1.2: a secret that is used together with another factor (here the key's file)


def find_passphrase(name: str, *, new: bool) -> str:
    """``$BATCHONE_APPROVER_PASSPHRASE``, else what ``name`` types on the terminal, twice for a new key.

    Raises
    ------
    MachineError
        Neither is there, or what was typed differs.
    """
    if (given := os.environ.get(VARIABLE)) is not None:
        return given
    if not sys.stdin.isatty():
        raise MachineError(
            f"the key of {name} wants its passphrase, and there is none", hint=f"run it on a terminal, or set ${VARIABLE}"
        )
    typed = getpass.getpass(f"{'New passphrase' if new else 'Passphrase'} of {name}: ")
    if new:
        refuse_short(typed, name)
        if getpass.getpass("Once more: ") != typed:
            raise MachineError("the two passphrases differ", hint="run the same command again")
    return typed


def refuse_short(passphrase: str, name: str) -> None:
    """Refuse a passphrase that is shorter than :data:`MIN_CHARACTERS`."""
    if len(passphrase) < MIN_CHARACTERS:
        raise MachineError(
            f"the passphrase of {name} has {len(passphrase)} characters, at least {MIN_CHARACTERS}", hint="take some words"
        )
