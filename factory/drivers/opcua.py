"""A machine behind an OPC UA server: orders by ISA-95 Job Control (OPC 10031-4), found as Machinery says (OPC 40001-1 and -3).

The build is put where the machine finds it, the order of that name is stored and started, and its state and what the machine
measures are asked for every half second. A server that cannot be reached is asked again: the machine goes on meanwhile, and so
does the print. Layers that ended between two answers are told to have ended with the later.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import TimeoutError as WaitedTooLong
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from batchone.factory.drivers.driver import LayerSeen, Progress, Reading
from batchone.factory.drivers.folder import drop
from batchone.factory.proof import Work
from batchone.factory.settings import OpcuaSettings
from batchone.factory.twin.companion import JOB_CONTROL, JOBS, MACHINERY, NO_ERROR
from batchone.pipeline.errors import MachineError
from batchone.pipeline.store import write_atomic

if TYPE_CHECKING:
    from asyncua.sync import Client, SyncNode

ASKED: Final = ".ordered"  # beside a build: the order of it was or is being given
PATIENCE_S: Final = 1800.0  # project default: so long a server may be away before its print counts as failed
_LOG = logging.getLogger(__name__)
_POLL_S: Final = 0.5
_TRIES: Final = 3  # project default: to stop a build
_ANSWER_S: Final = 30.0  # project default: for one answer
_OVER: Final = ("Ended", "Aborted")
_BEGUN: Final = ("Running", "Interrupted")
_LAYERED: Final = ("recoating", "exposing", "paused")  # states of a machine in which it is in a layer
_SUCCESSFUL: Final = 1  # JobResult of OPC 40001-3


@dataclass(frozen=True, slots=True)
class OrderSeen:
    """An order as the machine tells of it: its state, what its response says, and what the machine measures."""

    state: str
    said: Mapping[str, Any]
    values: Mapping[str, float]


class OrderClient:
    """The job orders of one machine; connects when it is needed, and again after a connection was lost.

    Every method raises OSError when the server cannot be reached now, and MachineError when there is no such machine in it.
    """

    def __init__(self, settings: OpcuaSettings) -> None:
        self._settings = settings
        self._client: Client | None = None
        self._space = 0  # of ISA-95 Job Control, in this server
        self._nodes: dict[str, SyncNode] = {}
        self._values: dict[str, SyncNode] = {}

    def states(self) -> dict[str, str]:
        """State of every order on the machine, by its id."""
        with self._connected():
            listed = self._nodes["orders"].read_value()
            return {one.JobOrder.JobOrderID: one.State[0].StateText.Text for one in listed}

    def start(self, identifier: str, folder: str) -> None:
        """Store an order and start it; ``folder`` is where the machine finds the build.

        Raises
        ------
        MachineError
            The machine does not take it.
        """
        from asyncua.sync import ua

        with self._connected():
            where = ua.ISA95ParameterDataType(ID="folder", Value=ua.Variant(folder, ua.VariantType.String))
            order = ua.ISA95JobOrderDataType(JobOrderID=identifier, JobOrderParameters=[where])
            self._call("StoreAndStart", order)

    def tell(self, identifier: str, method: str) -> None:
        """Call a method of an order: ``Start``, ``Pause``, ``Resume``, ``Stop``, ``Abort``, ``Cancel``, ``Clear``.

        Raises
        ------
        MachineError
            The machine refuses it.
        """
        with self._connected():
            self._call(method, identifier)

    def seen(self, identifier: str) -> OrderSeen | None:
        """An order as it is now; None where the machine does not know it."""
        state = self.states().get(identifier)
        if state is None:
            return None
        with self._connected():
            assert self._client is not None
            found, status = self._nodes["results"].call_method(f"{self._space}:RequestJobResponseByJobOrderID", identifier)
            data = found.JobResponseData or [] if status == NO_ERROR else []
            values = self._client.read_values(list(self._values.values()))
            told = {name: float(value) for name, value in zip(self._values, values, strict=True)}
            return OrderSeen(state, {one.ID: one.Value.Value for one in data}, told)

    def close(self) -> None:
        """Let the server go."""
        client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(*_cut()):
                client.tloop.post(_let_go(client))
            client.tloop.stop()

    def _call(self, method: str, *given: Any) -> None:
        from asyncua.sync import ua

        control, comment = self._nodes["control"], ua.Variant([], ua.VariantType.LocalizedText, is_array=True)
        status = control.call_method(f"{self._space}:{method}", *given, comment)
        if status != NO_ERROR:
            raise MachineError(f"the machine refuses {method}: ReturnStatus {status}", hint="see its own panel or log")

    @contextlib.contextmanager
    def _connected(self) -> Iterator[None]:
        try:
            if self._client is None:
                self._connect()
            yield
        except _cut() as error:
            self.close()
            raise OSError(f"{self._settings.endpoint}: {error or type(error).__name__}") from error

    def _connect(self) -> None:
        from asyncua.sync import Client

        given = self._settings
        client = self._client = Client(given.endpoint, timeout=_ANSWER_S, sync_wrapper_timeout=2.0 * _ANSWER_S)
        if given.certificate is not None and given.key is not None:
            from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256

            files = (str(given.certificate), str(given.key))
            server = None if given.server_certificate is None else str(given.server_certificate)
            client.set_security(SecurityPolicyBasic256Sha256, *files, server_certificate=server)
        client.connect()
        client.load_data_type_definitions()
        space = {uri: client.get_namespace_index(uri) for uri in (MACHINERY, JOBS, JOB_CONTROL)}
        self._space = space[JOB_CONTROL]
        try:
            machine = self._machine(client.nodes.objects.get_child(f"{space[MACHINERY]}:Machines").get_children())
        except MachineError:
            self.close()
            raise
        jobs = machine.get_child(f"{space[JOBS]}:JobManagement")
        control, results = (jobs.get_child(f"{space[JOBS]}:{name}") for name in ("JobOrderControl", "JobOrderResults"))
        self._nodes = {
            "control": control,
            "orders": control.get_child(f"{space[JOB_CONTROL]}:JobOrderList"),
            "results": results,
        }
        process = machine.get_child([f"{space[MACHINERY]}:Monitoring", f"{space[MACHINERY]}:Process"])
        self._values = {node.read_browse_name().Name: node for node in process.get_children()}

    def _machine(self, found: list[SyncNode]) -> SyncNode:
        names = [node.read_browse_name().Name for node in found]
        wanted = self._settings.machine
        if wanted in names or (not wanted and len(names) == 1):
            return found[names.index(wanted) if wanted else 0]
        raise MachineError(
            f"machine is {wanted or 'not named'}; {self._settings.endpoint} has {', '.join(names) or 'none'}",
            hint="set machine of [opcua] in cell.toml",
        )


class OpcuaDriver:
    """Gives a machine its builds as job orders ``<name>-<attempt>``, and follows them.

    Raises
    ------
    MachineError
        The address is none, or the way to it is not protected.
    """

    goes_on = True

    def __init__(self, settings: OpcuaSettings) -> None:
        from batchone.factory.twin.opcua import Endpoint

        Endpoint(settings.endpoint, settings.certificate, settings.key)
        self._settings = settings
        self.simulated, self.measures = settings.simulated, settings.measures

    def build(self, work: Work, attempt: int) -> Generator[Progress, None, None]:
        """See :class:`batchone.factory.drivers.driver.Driver`.

        Raises
        ------
        MachineError
            Another order is under way, the machine does not take this one, or it cannot be reached for too long.
        """
        name, client = f"{work.name}-{attempt}", OrderClient(self._settings)
        ended = False
        with contextlib.closing(client):
            try:
                last = Progress("running", 0.0)
                yield from self._until_reached(lambda: self._order(client, work, name), last)
                layers, energy_kwh, reached = 0, 0.0, time.monotonic()
                while not ended:
                    try:
                        seen = client.seen(name)
                    except OSError as error:
                        if time.monotonic() - reached > PATIENCE_S:
                            raise MachineError(f"the machine was not reached for {PATIENCE_S:.0f} s: {error}") from error
                        seen = None
                        yield Progress("running", last.seconds, energy_kwh=energy_kwh)
                    else:
                        reached = time.monotonic()
                        last = _progress(seen, layers, last)
                        layers, energy_kwh = layers + len(last.layers), last.energy_kwh
                        ended = last.state != "running"
                        yield last
                    if not ended:
                        time.sleep(_POLL_S)
            finally:
                if not ended:
                    _stop(client, name)

    def _order(self, client: OrderClient, work: Work, name: str) -> None:
        """Give the order, once: what was ordered before is followed, or was lost by the machine."""
        place = self._settings.share / name
        states = client.states()
        busy = [other for other, state in states.items() if other != name and state not in _OVER]
        if busy:
            raise MachineError(f"the machine has not ended {', '.join(busy)}", hint="stop it there")
        drop(work.folder, place)
        if name in states or (place / ASKED).exists():
            return
        for other in states:
            client.tell(other, "Clear")
        write_atomic(place / ASKED, b"")
        client.start(name, f"{self._settings.seen_as or self._settings.share}/{name}")

    @staticmethod
    def _until_reached(does: Callable[[], None], told: Progress) -> Iterator[Progress]:
        began = time.monotonic()
        while True:
            try:
                does()
            except OSError as error:
                if time.monotonic() - began > PATIENCE_S:
                    raise MachineError(f"the machine is not reached: {error}", hint="is its server on?") from error
                _LOG.warning("the machine is not reached: %s", error)
                yield told
                time.sleep(_POLL_S)
            else:
                return


def _progress(seen: OrderSeen | None, layers: int, before: Progress) -> Progress:
    """What an answer says; ``layers`` were told before."""
    if seen is None:
        return Progress(
            "failed", before.seconds, energy_kwh=before.energy_kwh, reason="the machine does not know the order any more"
        )
    seconds = float(seen.said.get("elapsed_s", before.seconds))
    done = int(seen.said.get("layers_done", layers))
    energy_kwh = float(seen.values.get("energy_kwh", before.energy_kwh))
    alarms = dict(_alarms(text) for text in seen.said.get("alarms", ()))
    new = max(0, done - layers)
    joule = 3.6e6 * max(0.0, energy_kwh - before.energy_kwh) / max(1, new)
    told = tuple(LayerSeen(n, seconds, joule, alarms.get(n, ())) for n in range(layers, done))
    state = str(seen.said.get("state", ""))
    fresh = bool(seen.values) and seen.state in _BEGUN and seconds > before.seconds
    reading = Reading(seconds, state, done if state in _LAYERED else -1, seen.values)
    readings = (reading,) if fresh else ()
    if seen.state not in _OVER:
        return Progress("running", seconds, told, readings, energy_kwh)
    good = seen.state == "Ended" and seen.said.get("JobResult") == _SUCCESSFUL
    reason = (
        ""
        if good
        else f"the order is {seen.state}, JobResult {seen.said.get('JobResult')}; " + "; ".join(seen.said.get("alarms", ()))
    )
    return Progress("done" if good else "failed", seconds, told, readings, energy_kwh, reason.rstrip("; "))


def _alarms(text: str) -> tuple[int, tuple[str, ...]]:
    layer, _, names = text.partition(": ")
    return int(layer), tuple(names.split(", "))


def _stop(client: OrderClient, name: str) -> None:
    """A build that is not to go on: cancelled before it began, else stopped, or aborted where there is no Stop."""
    for _ in range(_TRIES):
        try:
            state = client.states().get(name)
            if state in ("NotAllowedToStart", "AllowedToStart"):
                client.tell(name, "Cancel")
            elif state in _BEGUN:
                with contextlib.suppress(MachineError):
                    client.tell(name, "Stop")
                    return
                client.tell(name, "Abort")
        except (OSError, MachineError) as error:
            _LOG.warning("%s is not stopped: %s", name, error)  # nothing else is ordered before it has ended
            time.sleep(_POLL_S)
        else:
            return


async def _let_go(client: Client) -> None:
    """End the session where it can be ended, and the connection in any case."""
    with contextlib.suppress(*_cut()):
        await asyncio.wait_for(client.aio_obj.disconnect(), _ANSWER_S)
    client.aio_obj.disconnect_socket()
    await asyncio.sleep(0.0)


def _cut() -> tuple[type[Exception], ...]:
    """What is raised when the server does not answer, or not as it should."""
    from asyncua.sync import ThreadLoopNotRunning, ua

    return (OSError, TimeoutError, WaitedTooLong, ua.UaError, ThreadLoopNotRunning)
