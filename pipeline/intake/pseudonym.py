"""Names for DICOM objects that lead back to the hospital's own only where those are known."""

from __future__ import annotations

import hashlib

_DOMAIN = b"batchone/uid/1/"  # keeps these hashes apart from all others


def pseudonymous_uid(uid: str) -> str:
    """The UID that stands for ``uid`` in everything that leaves the intake: ``2.25.`` and 128 bits of its SHA-256.

    The same rule for every site, so that whoever holds the original UIDs (the hospital) can lead an object back to them, and
    nobody else can. An empty UID stays empty.
    """
    if not uid:
        return ""
    return f"2.25.{int.from_bytes(hashlib.sha256(_DOMAIN + uid.encode('ascii', 'replace')).digest()[:16], 'big')}"
