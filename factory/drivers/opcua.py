"""A machine behind an OPC UA server: orders by ISA-95 Job Control (OPC 10031-4), found as Machinery says (OPC 40001-1 and -3).

The build is put where the machine finds it, the order of that name is stored and started, and its state and what the machine
measures are asked for every half second. A server that cannot be reached is asked again: the machine goes on meanwhile, and so
does the print. Layers that ended between two answers are told to have ended with the later.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import TimeoutError as WaitedTooLong
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from batchone.factory.drivers.driver import Progress
from batchone.factory.drivers.folder import drop
from batchone.factory.drivers.order import BEGUN, OVER, Followed, OrderSeen
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
_ODD: Final[tuple[type[Exception], ...]] = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, struct.error)
"""What is raised by an answer that is not what it should be: the machine is not reached, whatever it is that answers."""
_TRIES: Final = 3  # project default: to stop a build
_ANSWER_S: Final = 30.0  # project default: for one answer
_GAP_S: Final = 10.0  # project default, unverified: without an answer for longer, what is measured is not known throughout
_DOUBT_S: Final = 2.0 * _ANSWER_S  # project default: until an order that was not answered is there, if it comes at all


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
        """State of every order on the machine, by its id; "" of one that has none."""
        with self._connected():
            listed = self._nodes["orders"].read_value() or []
            return {str(one.JobOrder.JobOrderID): str(one.State[0].StateText.Text or "") if one.State else "" for one in listed}

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
        if not state:
            raise OSError(f"{self._settings.endpoint}: order {identifier} has no state")
        with self._connected():
            assert self._client is not None
            found, status = self._nodes["results"].call_method(f"{self._space}:RequestJobResponseByJobOrderID", identifier)
            data = found.JobResponseData or [] if status == NO_ERROR else []
            values = self._client.read_values(list(self._values.values()))
            said = {one.ID: one.Value.Value for one in data if one.Value is not None}
            return OrderSeen(state, said, dict(zip(self._values, values, strict=True)))

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
        except (*_cut(), *_ODD) as error:
            self.close()
            raise OSError(f"{self._settings.endpoint}: {str(error) or type(error).__name__}") from error

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
        self._values = {node.read_browse_name().Name: node for node in process.get_variables()}

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

        endpoint = Endpoint(settings.endpoint, settings.certificate, settings.key)
        if settings.server_certificate is None and not endpoint.is_here:
            raise MachineError(
                f"{settings.endpoint} is not on this machine and has no server_certificate: any server would do",
                hint="name its own certificate: server_certificate of [opcua] in cell.toml",
            )
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
        followed = Followed(work.layers)
        with contextlib.closing(client):
            try:
                yield from self._until_reached(lambda: self._order(client, work, name), followed.waiting())
                ordered = reached = time.monotonic()
                while not followed.ended:
                    now = time.monotonic()
                    try:
                        seen = client.seen(name)
                    except OSError as error:
                        if now - reached > PATIENCE_S:
                            raise MachineError(f"the machine was not reached for {PATIENCE_S:.0f} s: {error}") from error
                        yield followed.waiting()
                    else:
                        comes = seen is None and now - ordered < _DOUBT_S and _in_doubt(self._settings.share / name)
                        yield followed.waiting() if comes else followed.progress(seen, gap=now - reached > _GAP_S)
                        reached = now
                    if not followed.ended:
                        time.sleep(_POLL_S)
            finally:
                if not followed.ended:
                    _stop(client, name, self._settings.share / name)

    def _order(self, client: OrderClient, work: Work, name: str) -> None:
        """Give the order, once: what was ordered before is followed, or was lost by the machine."""
        place = self._settings.share / name
        states = client.states()
        busy = [other for other, state in states.items() if other != name and state not in OVER]
        if busy:
            raise MachineError(f"the machine has not ended {', '.join(busy)}", hint="stop it there")
        drop(work.folder, place)
        if name in states or (place / ASKED).exists():
            return
        for other in states:
            if Path(other).name == other and (self._settings.share / other / ASKED).is_file():  # one of ours
                client.tell(other, "Clear")
                _clear(self._settings.share / other)
        write_atomic(place / ASKED, b"")
        try:
            client.start(name, f"{self._settings.seen_as or self._settings.share}/{name}")
        except MachineError:
            _answered(place)
            raise
        _answered(place)

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


def _in_doubt(place: Path) -> bool:
    """Whether an order was given and not answered: it may be there only later."""
    try:
        return (place / ASKED).stat().st_size == 0
    except FileNotFoundError:
        return False
    except OSError:
        return True


def _answered(place: Path) -> None:
    with contextlib.suppress(OSError, MachineError):  # then it is in doubt for a while, which costs no more than time
        write_atomic(place / ASKED, b"answered\n")


def _clear(place: Path) -> None:
    """Remove a build that is over; that its order was given is kept."""
    with contextlib.suppress(OSError):  # the machine may have a file open
        for path in sorted(place.iterdir()):
            if path.name != ASKED:
                path.unlink()


def _stop(client: OrderClient, name: str, place: Path) -> None:
    """A build that is not to go on: cancelled before it began, else stopped, or aborted where there is no Stop."""
    began, tries = time.monotonic(), 0
    while tries < _TRIES:
        try:
            state = client.states().get(name)
            if state is None and _in_doubt(place) and time.monotonic() - began < _DOUBT_S:
                time.sleep(_POLL_S)
                continue
            if state in ("NotAllowedToStart", "AllowedToStart"):
                client.tell(name, "Cancel")
            elif state in BEGUN:
                with contextlib.suppress(MachineError):
                    client.tell(name, "Stop")
                    return
                client.tell(name, "Abort")
        except (OSError, MachineError) as error:
            _LOG.warning("%s is not stopped: %s", name, error)  # nothing else is ordered before it has ended
            tries += 1
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
