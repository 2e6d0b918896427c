"""A twin as an OPC UA server: a machine that a client finds, watches, and gives job orders to.

Below ``Machines`` stands the machine with its identification, its state, what it measures, and its job management
(:mod:`batchone.factory.twin.companion`). An order is stored and started by its id, one is printed at a time, the highest
priority first; it is ``Interrupted`` while the machine holds or a client paused it, which stops its time, and ``Ended`` with a
JobResult of 1 (successful) or 2 (not, or stopped by a client). The response tells ``alarms`` ("LAYER: ALARM, ALARM") where the
machine noticed something. Not there: Update and the events of a job. On loopback it speaks openly; elsewhere it needs a
certificate, and clients sign and encrypt (Basic256Sha256).
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from asyncua import Node, Server, ua, uamethod

from batchone.factory.twin import companion, machine_nodes
from batchone.factory.twin.machine import Twin
from batchone.factory.twin.sensors import Sample, samples
from batchone.pipeline.errors import BatchoneError, MachineError

JobState = Literal["NotAllowedToStart", "AllowedToStart", "Running", "Interrupted", "Ended", "Aborted"]

SUCCESSFUL, UNSUCCESSFUL = 1, 2  # JobResult of OPC 40001-3
_LOG = logging.getLogger(__name__)
_READY_S: Final = 60.0  # project default: until the server answers
_STOP_S: Final = 20.0  # project default: until it has let its clients go
_LOOK_S: Final = 0.05  # project default: between looks for a next order


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a machine's server is: ``opc.tcp://HOST:PORT/PATH``; off loopback with a certificate and its key.

    Raises
    ------
    MachineError
        The address is no such one, or the way to it is not protected.
    """

    url: str
    certificate: Path | None = None
    key: Path | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        try:
            sound = parts.scheme == "opc.tcp" and bool(parts.hostname) and bool(parts.port)
        except ValueError:  # no port can be that
            sound = False
        if not sound:
            raise MachineError(f"address is {self.url!r}, must be opc.tcp://HOST:PORT/PATH", hint="mend it in the settings")
        if (self.certificate is None or self.key is None) and not self.is_here:
            raise MachineError(f"{self.url} is not on this machine and has no certificate", hint="name a certificate and its key")

    @property
    def is_here(self) -> bool:
        """Whether it is on this machine, which nobody else is between."""
        return _is_loopback(str(urlsplit(self.url).hostname))


@dataclass(slots=True)
class _Job:
    """A job order on the machine; changed while it is printed."""

    order: Any  # ISA95JobOrderDataType, made at run time
    state: JobState
    result: int = 0
    told: Sample | None = None
    held: bool = False
    alarms: tuple[str, ...] = ()

    @property
    def identifier(self) -> str:
        return str(self.order.JobOrderID)


@dataclass(slots=True)
class _Machine:
    """The server's side of one machine: its nodes, and its orders by id, oldest first."""

    server: Server
    spaces: companion.Spaces
    open_build: Callable[[str], Twin]
    period_s: float
    speed: float | None
    jobs: dict[str, _Job] = field(default_factory=dict)
    values: dict[str, Node] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)

    async def build(self, machine: str, profile: str) -> None:
        """Make the nodes of the machine, of its orders and responses, and the methods of both."""
        nodes = await machine_nodes.build(self.server, self.spaces, machine, profile)
        self.values, self.nodes = nodes.values, nodes.others
        await self._add_methods()
        await self.show_jobs()
        await self.show_item_state("NotExecuting")

    async def _add_methods(self) -> None:
        order = [_argument("JobOrder", self.spaces.structure("ISA95JobOrderDataType")), _COMMENT]
        identifier = [_argument("JobOrderID", _STRING), _COMMENT]
        methods: tuple[tuple[str, list[ua.Argument], Callable[[Any], Awaitable[int]]], ...] = (
            ("Store", order, lambda given: self.accept(given, "NotAllowedToStart")),
            ("StoreAndStart", order, lambda given: self.accept(given, "AllowedToStart")),
            ("Start", identifier, lambda given: self.change(given, ("NotAllowedToStart",), "AllowedToStart")),
            ("RevokeStart", identifier, lambda given: self.change(given, ("AllowedToStart",), "NotAllowedToStart")),
            ("Pause", identifier, lambda given: self.hold(given, held=True)),
            ("Resume", identifier, lambda given: self.hold(given, held=False)),
            ("Stop", identifier, lambda given: self.change(given, ("Running", "Interrupted"), "Ended", UNSUCCESSFUL)),
            ("Abort", identifier, lambda given: self.change(given, _NOT_ENDED, "Aborted")),
            ("Cancel", identifier, lambda given: self.change(given, ("NotAllowedToStart", "AllowedToStart"), None)),
            ("Clear", identifier, lambda given: self.change(given, ("Ended", "Aborted"), None)),
        )
        for name, takes, does in methods:
            await self._add_method("control", name, _method(does), takes, [_STATUS])
        response, state = (self.spaces.structure(f"ISA95{name}DataType") for name in ("JobResponse", "State"))
        takes, gives = [_argument("JobOrderID", _STRING)], [_argument("JobResponse", response), _STATUS]
        await self._add_method("results", "RequestJobResponseByJobOrderID", self._asked_by_id(), takes, gives)
        takes, gives = [_argument("JobOrderState", state, array=True)], [_argument("JobResponses", response, array=True), _STATUS]
        await self._add_method("results", "RequestJobResponseByJobOrderState", self._asked_by_state(), takes, gives)

    async def _add_method(self, of: str, name: str, does: Any, takes: list[ua.Argument], gives: list[ua.Argument]) -> None:
        browse_name = ua.QualifiedName(name, self.spaces.job_control)
        await self.nodes[of].add_method(ua.NodeId(0, self.spaces.own), browse_name, does, takes, gives)

    def _asked_by_id(self) -> Any:
        @uamethod
        async def asked(_parent: ua.NodeId, identifier: str) -> Any:
            job = self.jobs.get(str(identifier))
            found = _response(job) if job is not None else ua.ISA95JobResponseDataType()
            status = companion.NO_ERROR if job is not None else companion.UNKNOWN_ORDER
            return ua.Variant(found, ua.VariantType.ExtensionObject), ua.Variant(status, ua.VariantType.UInt64)

        return asked

    def _asked_by_state(self) -> Any:
        names = {number: name for name, (number, _) in companion.JOB_STATES.items()}

        @uamethod
        async def asked(_parent: ua.NodeId, states: list[Any]) -> Any:
            name = names.get(states[0].StateNumber) if states else None
            found = [_response(job) for job in self.jobs.values() if job.state == name and job.state in _BEGUN]
            status = companion.NO_ERROR if name is not None else companion.INVALID_STATUS
            listed = ua.Variant(found, ua.VariantType.ExtensionObject, is_array=True)
            return listed, ua.Variant(status, ua.VariantType.UInt64)

        return asked

    # what a client may call

    async def accept(self, order: Any, state: JobState) -> int:
        """Store an order; it must name a build that this machine can print."""
        identifier = str(order.JobOrderID or "")
        if not identifier:
            return companion.INVALID_REQUEST
        if identifier in self.jobs or len(self.jobs) >= machine_nodes.MOST_ORDERS:
            return companion.NOT_ACCEPTED
        try:
            await asyncio.to_thread(self.open_build, identifier)
        except BatchoneError:
            return companion.NOT_ACCEPTED
        if identifier in self.jobs:  # meanwhile
            return companion.NOT_ACCEPTED
        self.jobs[identifier] = _Job(order, state)
        await self.show_jobs()
        return companion.NO_ERROR

    async def change(self, identifier: str, allowed: tuple[JobState, ...], state: JobState | None, result: int = 0) -> int:
        """Bring an order into another state, or forget it (None), from one of those in which that is allowed."""
        job = self.jobs.get(str(identifier))
        if job is None:
            return companion.UNKNOWN_ORDER
        if job.state not in allowed:
            return companion.INVALID_STATUS
        if state is None:
            del self.jobs[job.identifier]
        else:
            job.state, job.result = state, result
        await self.show_jobs()
        return companion.NO_ERROR

    async def hold(self, identifier: str, *, held: bool) -> int:
        """Let the machine stand still in an order, or go on where a client had it stand still."""
        job = self.jobs.get(str(identifier))
        if job is not None and job.held == held:  # also: it holds by itself
            return companion.INVALID_STATUS
        allowed: tuple[JobState, ...] = ("Running",) if held else ("Interrupted",)
        if job is not None and job.state in allowed:
            job.held = held  # before anybody else looks
        return await self.change(identifier, allowed, "Interrupted" if held else "Running")

    # printing

    async def work(self) -> None:
        """Print what may be started, one order after the other."""
        while True:
            ready = [job for job in self.jobs.values() if job.state == "AllowedToStart"]
            if ready:
                await self.print(max(ready, key=lambda job: job.order.Priority or 0))  # the oldest of the highest
            await asyncio.sleep(_LOOK_S)

    async def print(self, job: _Job) -> None:
        """Print one order, unless it is aborted."""
        job.state = "Running"
        await self.show_jobs()
        await self.show_item_state("Executing")
        try:
            twin = await asyncio.to_thread(self.open_build, job.identifier)
            await asyncio.to_thread(lambda: twin.phases)
        except BatchoneError:
            self.end(job, UNSUCCESSFUL)
        else:
            await self.follow(job, twin)
            self.end(job, UNSUCCESSFUL if twin.built[-1].state == "failed" else SUCCESSFUL)
        await self.show_jobs()
        await self.show_item_state("NotExecuting")

    async def follow(self, job: _Job, twin: Twin) -> None:
        """Show sample by sample, in simulated time."""
        loop = asyncio.get_running_loop()
        started_s, alarmed = loop.time(), [one for one in twin.built if one.alarms]
        for sample in samples(twin, self.period_s):
            while job.held and job.state == "Interrupted":
                await asyncio.sleep(_LOOK_S)
                started_s += _LOOK_S
            if job.state in _OVER:
                return
            before, job.told = job.state, sample
            job.alarms = tuple(f"{one.index}: {', '.join(one.alarms)}" for one in alarmed if one.end_s <= sample.time_s)
            job.state = "Interrupted" if sample.state == "paused" else "Running"
            await self.show(sample)
            if job.state != before:
                await self.show_jobs()
            due_s = started_s + (sample.time_s / self.speed if self.speed is not None else 0.0)
            while job.state not in _OVER and not job.held and (left_s := due_s - loop.time()) > 0.0:
                await asyncio.sleep(min(left_s, _LOOK_S))
            await asyncio.sleep(0.0)

    @staticmethod
    def end(job: _Job, result: int) -> None:
        """An order has ended, unless a client had ended it."""
        if job.state not in _OVER:
            job.state, job.result = "Ended", result

    # what it shows

    async def show(self, sample: Sample) -> None:
        """What was measured."""
        for name, value in sample.values.items():
            await self.values[name].write_value(value, ua.VariantType.Double)
        await self.values["state"].write_value(sample.state)

    async def show_item_state(self, name: str) -> None:
        """Whether the machine is executing."""
        await self.nodes["item-state"].write_value(ua.LocalizedText(name))
        state = ua.NodeId(companion.ITEM_STATES[name], self.spaces.machinery)
        await self.nodes["item-state-id"].write_value(state, ua.VariantType.NodeId)

    async def show_jobs(self) -> None:
        """All orders with their states, and the responses of those that were begun."""
        listed = [ua.ISA95JobOrderAndStateDataType(JobOrder=job.order, State=[_state(job.state)]) for job in self.jobs.values()]
        await self.nodes["orders"].write_value(ua.Variant(listed, ua.VariantType.ExtensionObject, is_array=True))
        begun = [_response(job) for job in self.jobs.values() if job.state in _BEGUN]
        await self.nodes["responses"].write_value(ua.Variant(begun, ua.VariantType.ExtensionObject, is_array=True))


@contextmanager
def served(
    endpoint: Endpoint, *, machine: str, profile: str, open_build: Callable[[str], Twin], period_s: float, speed: float | None
) -> Iterator[None]:
    """Serve a machine until the end of the block.

    Parameters
    ----------
    endpoint
        Where.
    machine, profile
        Its name, which is its serial number too, and the name of its profile.
    open_build
        The build of a job order's id; a refusal by an error of ours means that the order is not accepted. Called from threads;
        it must come to an end.
    period_s, speed
        Simulated seconds from sample to sample, and in a second; None: as fast as it goes.

    Raises
    ------
    MachineError
        The server does not start.
    """
    ready: list[BaseException | None] = []
    broken: list[BaseException] = []
    changed, loop = threading.Event(), asyncio.new_event_loop()
    done = asyncio.Event()

    async def serve() -> None:
        try:
            server = await _server(endpoint, machine)
            one = _Machine(server, await companion.add_types(server), open_build, period_s, speed)
            await one.build(machine, profile)
            await server.start()
        except (OSError, ValueError, ua.UaError) as error:
            ready.append(error)
            return
        else:
            ready.append(None)
        finally:
            changed.set()
        working, ending = asyncio.create_task(one.work()), asyncio.create_task(done.wait())
        await asyncio.wait({working, ending}, return_when=asyncio.FIRST_COMPLETED)
        working.cancel()
        ending.cancel()
        try:  # the library waits without end for a client that came while it stopped
            await asyncio.wait_for(server.stop(), _STOP_S)
        except TimeoutError:
            _LOG.warning("OPC UA server %s did not stop within %g s", endpoint.url, _STOP_S)
        with suppress(asyncio.CancelledError):
            await working  # a bug of ours comes out here

    def run() -> None:
        try:
            loop.run_until_complete(serve())
        except (BatchoneError, OSError, RuntimeError, ValueError, TypeError, KeyError, ua.UaError) as error:
            broken.append(error)  # raised again where the block ends
        finally:
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    thread = threading.Thread(target=run, name=f"opcua-{machine}", daemon=True)
    thread.start()
    changed.wait(_READY_S)
    if not ready or ready[0] is not None:
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(done.set)
        raise MachineError(
            f"OPC UA server {endpoint.url} does not start: {ready[0] if ready else 'no answer'}",
            hint="is the port free, and is the address one of this machine?",
        )
    try:
        yield
    finally:
        with suppress(RuntimeError):  # it has ended by itself
            loop.call_soon_threadsafe(done.set)
        thread.join(_READY_S)
    if broken:
        raise broken[0]


async def _server(endpoint: Endpoint, machine: str) -> Server:
    server = Server()
    await server.init()
    server.set_endpoint(endpoint.url)
    server.set_server_name(f"batchone {machine}")
    policy = ua.SecurityPolicyType.NoSecurity
    if endpoint.certificate is not None and endpoint.key is not None:
        policy = ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt
        await server.load_certificate(str(endpoint.certificate))
        await server.load_private_key(str(endpoint.key))
    server.set_security_policy([policy])
    return server


def _argument(name: str, kind: ua.NodeId, *, array: bool = False) -> ua.Argument:
    return ua.Argument(
        Name=name, DataType=kind, ValueRank=1 if array else -1, ArrayDimensions=[], Description=ua.LocalizedText("")
    )


def _method(does: Callable[[Any], Awaitable[int]]) -> Any:
    @uamethod
    async def called(_parent: ua.NodeId, given: Any, _comment: Any) -> Any:
        return ua.Variant(await does(given), ua.VariantType.UInt64)

    return called


def _state(name: JobState) -> Any:
    number, _ = companion.JOB_STATES[name]
    return ua.ISA95StateDataType(StateText=ua.LocalizedText(name), StateNumber=number)


def _response(job: _Job) -> Any:
    told: list[tuple[str, Any, ua.VariantType]] = [("JobResult", job.result, ua.VariantType.Int32)]
    if job.told is not None:
        told += [("elapsed_s", job.told.time_s, ua.VariantType.Double), ("state", job.told.state, ua.VariantType.String)]
        told += [("layers_done", int(job.told.values["layers_done"]), ua.VariantType.UInt32)]
    if job.alarms:
        told += [("alarms", list(job.alarms), ua.VariantType.String)]
    return ua.ISA95JobResponseDataType(
        JobResponseID=job.identifier,
        JobOrderID=job.identifier,
        JobState=[_state(job.state)],
        JobResponseData=[ua.ISA95ParameterDataType(ID=name, Value=ua.Variant(value, kind)) for name, value, kind in told],
    )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


_COMMENT: Final = _argument("Comment", ua.NodeId(21, 0), array=True)
_STATUS: Final = _argument("ReturnStatus", ua.NodeId(9, 0))
_NOT_ENDED: Final[tuple[JobState, ...]] = ("NotAllowedToStart", "AllowedToStart", "Running", "Interrupted")
_OVER: Final[tuple[JobState, ...]] = ("Ended", "Aborted")
_STRING: Final = ua.NodeId(12, 0)
_BEGUN: Final[tuple[JobState, ...]] = ("Running", "Interrupted", "Ended", "Aborted")
