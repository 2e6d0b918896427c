"""TLS by BCP 195 (RFC 9325), as DICOM asks for it (PS3.15, B.12): 1.2 or newer, forward secrecy, certificates on both sides."""

from __future__ import annotations

import datetime as dt
import ssl
from pathlib import Path

from cryptography import x509

from batchone.pipeline.errors import MachineError

_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM"  # forward secrecy and authenticated: RFC 9325 (BCP 195), 4.2
_PEM = "give PEM files: --tls-cert CERTIFICATE --tls-key KEY --tls-ca AUTHORITY"


def server_tls(certificate: Path, key: Path, authority: Path | None) -> ssl.SSLContext:
    """The TLS of a receiver after BCP 195: 1.2 or newer, forward secrecy; with an authority, senders must show a certificate.

    Raises
    ------
    MachineError
        A file cannot be used, or the certificate is not valid now.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    try:
        context.load_cert_chain(certificate, key, password=lambda: "")
    except (OSError, ValueError) as error:
        raise MachineError(f"the TLS certificate or its key cannot be used: {_why(error)}", hint=_PEM) from error
    _refuse_expired(certificate)
    if authority is not None:
        try:
            context.load_verify_locations(authority)
        except (OSError, ValueError) as error:
            raise MachineError(f"the TLS authority cannot be used: {_why(error)}", hint=_PEM) from error
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_tls(certificate: Path | None, key: Path | None, authority: Path | None) -> ssl.SSLContext:
    """The TLS of a reader: 1.2 or newer, the server's name checked; with a certificate of our own where one is given.

    Raises
    ------
    MachineError
        A file cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=authority)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if certificate is not None:
            context.load_cert_chain(certificate, key, password=lambda: "")
    except (OSError, ValueError) as error:
        raise MachineError(f"a TLS file cannot be used: {_why(error)}", hint=_PEM) from error
    return context


def _refuse_expired(certificate: Path) -> None:
    found = x509.load_pem_x509_certificate(certificate.read_bytes())
    now = dt.datetime.now(dt.UTC)
    if not found.not_valid_before_utc <= now <= found.not_valid_after_utc:
        raise MachineError(
            f"the TLS certificate is valid from {found.not_valid_before_utc:%Y-%m-%d} to {found.not_valid_after_utc:%Y-%m-%d}, "
            "must be valid now",
            hint="renew it",
        )


def _why(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "not a PEM file").replace("_", " ").lower()
    return str(getattr(error, "strerror", None) or error)
