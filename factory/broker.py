"""An MQTT broker: its address, who we are there, and the way to it, which is encrypted but on loopback."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from paho.mqtt.client import Client

from batchone.pipeline.errors import MachineError

HINT: Final = "is the broker running, and is its address that of the settings?"
_PORTS: Final = {"mqtt": 1883, "mqtts": 8883}  # IANA


@dataclass(frozen=True, slots=True)
class Broker:
    """Where telemetry goes: ``mqtt://HOST[:PORT]`` on loopback, ``mqtts://HOST[:PORT]`` anywhere.

    ``ca`` is whom to trust, None for the system's own; ``certificate`` and ``key`` are our own.

    Raises
    ------
    MachineError
        The address is no such one, or the way to it is not protected.
    """

    url: str
    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        try:
            sound = parts.scheme in _PORTS and bool(parts.hostname) and not (parts.path or parts.username) and parts.port != 0
        except ValueError:  # no port can be that
            sound = False
        if not sound:
            raise MachineError(f"broker is {self.url!r}, must be mqtts://HOST[:PORT]", hint="mend its address in the settings")
        if not self.encrypted and not _is_loopback(self.host):
            raise MachineError(
                f"broker {self.url} is not on this machine and its way not encrypted", hint="use mqtts:// and certificates"
            )

    @property
    def host(self) -> str:
        """Its name or address."""
        return str(urlsplit(self.url).hostname)

    @property
    def port(self) -> int:
        """That of the address, else that of the protocol."""
        return urlsplit(self.url).port or _PORTS[urlsplit(self.url).scheme]

    @property
    def encrypted(self) -> bool:
        """Whether the way to it is."""
        return urlsplit(self.url).scheme == "mqtts"


def prepare(client: Client, broker: Broker) -> None:
    """Tell a client who it is at the broker, and whom to trust there."""
    if broker.user is not None:
        client.username_pw_set(broker.user, broker.password)
    if broker.encrypted:
        context = ssl.create_default_context(cafile=str(broker.ca) if broker.ca else None)
        if broker.certificate is not None:
            context.load_cert_chain(broker.certificate, broker.key)
        client.tls_set_context(context)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
