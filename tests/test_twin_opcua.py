"""The twin as an OPC UA server, seen by a stock client: the nodes of the companion specifications, and orders that it prints."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import test_hatch as plates
from asyncua.crypto.cert_gen import setup_self_signed_certificate
from asyncua.sync import Client, SyncNode, ua
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from test_twin import MACHINE, TITANIUM, folder

from batchone.factory.twin.companion import DEVICES, JOB_CONTROL, JOBS, MACHINERY
from batchone.factory.twin.faults import Fault
from batchone.factory.twin.machine import Twin
from batchone.factory.twin.opcua import Endpoint, served
from batchone.factory.twin.sensors import VALUES, samples
from batchone.pipeline.errors import MachineError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]  # a server or broker that does not answer is told with where it hangs
WAIT_S = 30.0
ORDERS: dict[str, tuple[Fault, ...]] = {
    "good": (), "other": (), "held": (), "cut": (Fault("power-cut", 3),), "leak": (Fault("oxygen-rise", 3, 1, 1.0),),
}  # fmt: skip
NONE = ua.Variant([], ua.VariantType.LocalizedText, is_array=True)
GO = threading.Event()


def address() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"opc.tcp://127.0.0.1:{found.getsockname()[1]}/twin"


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder(tmp_path_factory.mktemp("bar"), [plates.box((10, 15, 0), (30, 25, 0.3))], TITANIUM)


class Seen:
    """A stock client at a machine, and its nodes by the names of the specifications."""

    def __init__(self, client: Client) -> None:
        client.load_data_type_definitions()
        self.index = {uri: client.get_namespace_index(uri) for uri in (DEVICES, MACHINERY, JOB_CONTROL, JOBS)}
        self.client = client
        self.machine = self.at(client.nodes.objects, (MACHINERY, "Machines")).get_children()[0]
        self.control = self.at(self.machine, (JOBS, "JobManagement"), (JOBS, "JobOrderControl"))
        self.results = self.at(self.machine, (JOBS, "JobManagement"), (JOBS, "JobOrderResults"))

    def at(self, node: SyncNode, *path: tuple[str, str]) -> SyncNode:
        return node.get_child([f"{self.index[uri]}:{name}" for uri, name in path])

    def call(self, node: SyncNode, name: str, *given: Any) -> Any:
        return node.call_method(f"{self.index[JOB_CONTROL]}:{name}", *given)

    def order(self, name: str, identifier: str, priority: int | None = None) -> int:
        return self.call(self.control, name, ua.ISA95JobOrderDataType(JobOrderID=identifier, Priority=priority), NONE)  # type: ignore[no-any-return]

    def command(self, name: str, identifier: str) -> int:
        return self.call(self.control, name, identifier, [ua.LocalizedText("test")])  # type: ignore[no-any-return]

    def states(self) -> dict[str, str]:
        listed = self.at(self.control, (JOB_CONTROL, "JobOrderList")).read_value()
        return {one.JobOrder.JobOrderID: one.State[0].StateText.Text for one in listed}

    def response(self, identifier: str) -> dict[str, Any]:
        found, status = self.call(self.results, "RequestJobResponseByJobOrderID", identifier)
        assert status == 1
        return {one.ID: one.Value.Value for one in found.JobResponseData}

    def until(self, identifier: str, *states: str) -> str:
        end = time.monotonic() + WAIT_S
        while self.states().get(identifier) not in states:
            assert time.monotonic() < end, self.states()
            time.sleep(0.02)
        return self.states()[identifier]


@pytest.fixture(scope="module")
def machine(build: Path) -> Iterator[Seen]:
    """A machine that prints any order of ORDERS as fast as it can; ``held`` when it is let go."""

    def opened(identifier: str) -> Twin:
        if identifier not in ORDERS:
            raise MachineError(f"no build {identifier}")
        if identifier == "held":
            assert GO.wait(WAIT_S)
        return Twin(build, TITANIUM, MACHINE, seed=3, faults=ORDERS[identifier])

    url, place = address(), {"machine": "lpbf-1", "profile": "sim-01"}
    with served(Endpoint(url), **place, open_build=opened, period_s=50.0, speed=None), Client(url) as client:
        yield Seen(client)


@pytest.fixture
def seen(machine: Seen) -> Iterator[Seen]:
    """The machine without orders."""
    GO.set()
    yield machine
    GO.set()
    for identifier in machine.states():
        machine.command("Abort", identifier)
        assert machine.command("Clear", identifier) == 1


def type_of(node: SyncNode) -> ua.NodeId:
    return node.read_type_definition()


def test_a_client_finds_the_machine_and_what_the_specifications_say_of_it(seen: Seen) -> None:
    index, machine = seen.index, seen.machine
    identification = seen.at(machine, (DEVICES, "Identification"))
    assert type_of(identification) == ua.NodeId(1012, index[MACHINERY])  # MachineIdentificationType
    for name in ("Manufacturer", "SerialNumber", "ProductInstanceUri", "Model"):
        assert seen.at(identification, (DEVICES, name)).read_value()
    assert seen.at(identification, (DEVICES, "SerialNumber")).read_value() == "lpbf-1"
    state = seen.at(machine, (MACHINERY, "MachineryItemState"))
    assert type_of(state) == ua.NodeId(1002, index[MACHINERY])
    assert state.get_child("0:CurrentState").read_value().Text == "NotExecuting"
    assert state.get_child(["0:CurrentState", "0:Id"]).read_value() == ua.NodeId(5007, index[MACHINERY])
    status = seen.at(machine, (MACHINERY, "Monitoring"), (MACHINERY, "Status"))
    assert state.nodeid in [node.nodeid for node in status.get_children()]
    jobs = seen.at(machine, (JOBS, "JobManagement"))
    assert type_of(jobs) == ua.NodeId(1003, index[JOBS])  # JobManagementType
    assert type_of(seen.control) == ua.NodeId(1002, index[JOB_CONTROL])  # ISA95JobOrderReceiverObjectType
    assert type_of(seen.results) == ua.NodeId(1003, index[JOB_CONTROL])  # ISA95JobResponseProviderObjectType
    members = "JobOrderList MaxDownloadableJobOrders WorkMaster MaterialClassID MaterialDefinitionID EquipmentID PhysicalAssetID"
    for name in (*members.split(), "PersonnelID", "Store", "StoreAndStart", "Start", "Abort", "Clear"):
        seen.at(seen.control, (JOB_CONTROL, name))
    seen.at(seen.results, (JOB_CONTROL, "JobOrderResponseList"))


def test_building_blocks_are_add_ins_of_the_machine_and_of_their_folder(seen: Seen) -> None:
    blocks = seen.at(seen.machine, (MACHINERY, "MachineryBuildingBlocks"))
    has_add_in = ua.NodeId(17604, 0)
    for node in (seen.machine, blocks):
        names = {one.BrowseName.Name for one in node.get_references(has_add_in, ua.BrowseDirection.Forward)}
        assert names == {"Identification", "Monitoring", "MachineryItemState", "JobManagement"}


def test_states_of_a_job_order_are_those_of_the_type(seen: Seen) -> None:
    receiver = seen.client.get_node(ua.NodeId(1002, seen.index[JOB_CONTROL]))
    found = {}
    for node in receiver.get_children():
        if node.read_type_definition() == ua.NodeId(ua.ObjectIds.StateType):
            found[node.read_browse_name().Name] = node.get_child("0:StateNumber").read_value()
    assert found == {
        "NotAllowedToStart": 1, "AllowedToStart": 2, "Running": 3, "Interrupted": 4, "Ended": 5, "Aborted": 6
    }  # fmt: skip
    assert receiver.get_parent().nodeid == ua.NodeId(ua.ObjectIds.FiniteStateMachineType)


def test_every_value_has_its_unit(seen: Seen) -> None:
    process = seen.at(seen.machine, (MACHINERY, "Monitoring"), (MACHINERY, "Process"))
    units = {node.read_browse_name().Name: node.get_child("0:EngineeringUnits").read_value() for node in process.get_children()}
    assert tuple(units) == VALUES
    assert units["bed_temperature_c"].DisplayName.Text == "Cel"
    assert type_of(process.get_children()[0]) == ua.NodeId(ua.ObjectIds.AnalogUnitType)


def test_the_list_of_values_is_that_of_samples(build: Path) -> None:
    assert tuple(next(samples(Twin(build, TITANIUM, MACHINE, seed=3), 1.0)).values) == VALUES


def test_an_order_is_printed_and_ends_well(seen: Seen, build: Path) -> None:
    assert seen.order("StoreAndStart", "good") == 1
    seen.until("good", "Ended")
    last = list(samples(Twin(build, TITANIUM, MACHINE, seed=3), 50.0))[-1]
    assert seen.response("good") == {"JobResult": 1, "elapsed_s": last.time_s, "state": "done", "layers_done": 10}
    process = seen.at(seen.machine, (MACHINERY, "Monitoring"), (MACHINERY, "Process"))
    told = {node.read_browse_name().Name: node.read_value() for node in process.get_children()}
    assert told == pytest.approx(dict(last.values))
    listed = seen.at(seen.results, (JOB_CONTROL, "JobOrderResponseList")).read_value()
    assert [one.JobOrderID for one in listed] == ["good"]


def test_a_build_that_fails_ends_without_success(seen: Seen) -> None:
    assert seen.order("StoreAndStart", "cut") == 1
    seen.until("cut", "Ended")
    assert (seen.response("cut")["JobResult"], seen.response("cut")["state"]) == (2, "failed")


class Changes:
    """What a subscription hears of the states of orders and of the machine."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def datachange_notification(self, _node: SyncNode, value: Any, _data: object) -> None:
        self.heard.append(value)


def test_an_order_is_interrupted_while_the_machine_holds(seen: Seen) -> None:
    changes = Changes()
    subscription = seen.client.create_subscription(20, changes)
    subscription.subscribe_data_change(seen.at(seen.control, (JOB_CONTROL, "JobOrderList")))
    assert seen.order("StoreAndStart", "leak") == 1
    seen.until("leak", "Ended")
    time.sleep(0.2)
    states = [listed[0].State[0].StateText.Text for listed in changes.heard if listed]
    assert [one for one, before in zip(states, [None, *states], strict=False) if one != before] == [
        "AllowedToStart", "Running", "Interrupted", "Running", "Ended"
    ]  # fmt: skip
    subscription.delete()


def test_commands_are_obeyed_in_the_states_in_which_they_are_allowed(seen: Seen) -> None:
    assert seen.order("Store", "good") == 1
    assert seen.states() == {"good": "NotAllowedToStart"}
    assert seen.order("Store", "good") == 16  # is there already
    assert seen.order("Store", "unknown") == 16  # no such build
    assert seen.order("Store", "") == 1 << 32
    for name in ("Start", "RevokeStart", "Abort", "Cancel", "Clear"):
        assert seen.command(name, "other") == 2  # is not here
    assert seen.command("RevokeStart", "good") == 8
    assert seen.command("Clear", "good") == 8
    assert seen.command("Cancel", "good") == 1
    assert seen.order("Store", "held") == 1
    GO.clear()
    assert seen.command("Start", "held") == 1
    seen.until("held", "Running")
    assert seen.at(seen.machine, (MACHINERY, "MachineryItemState")).get_child("0:CurrentState").read_value().Text == "Executing"
    assert seen.command("Start", "held") == 8
    assert seen.command("Cancel", "held") == 8
    assert seen.order("StoreAndStart", "other") == 1
    assert seen.states() == {"held": "Running", "other": "AllowedToStart"}  # one at a time
    assert seen.command("RevokeStart", "other") == 1
    assert seen.command("Cancel", "other") == 1
    assert seen.command("Abort", "held") == 1
    assert seen.states() == {"held": "Aborted"}
    assert seen.response("held")["JobResult"] == 0
    assert seen.command("Abort", "held") == 8
    aborted = ua.ISA95StateDataType(StateText=ua.LocalizedText("Aborted"), StateNumber=6)
    found, status = seen.call(seen.results, "RequestJobResponseByJobOrderState", [aborted])
    assert ([one.JobOrderID for one in found], status) == (["held"], 1)
    assert seen.command("Clear", "held") == 1
    assert seen.states() == {}
    _, status = seen.call(seen.results, "RequestJobResponseByJobOrderID", "held")
    assert status == 2


def test_the_highest_priority_is_printed_first_and_of_these_the_oldest(seen: Seen) -> None:
    assert seen.order("Store", "held") == 1
    GO.clear()
    assert seen.command("Start", "held") == 1
    seen.until("held", "Running")
    for identifier, priority in (("leak", 1), ("good", 5), ("cut", 9), ("other", 5)):
        assert seen.order("StoreAndStart", identifier, priority) == 1
    changes = Changes()
    subscription = seen.client.create_subscription(20, changes)
    subscription.subscribe_data_change(seen.at(seen.control, (JOB_CONTROL, "JobOrderList")))
    GO.set()
    for identifier in ORDERS:
        seen.until(identifier, "Ended")
    time.sleep(0.2)
    running = [one.JobOrder.JobOrderID for listed in changes.heard for one in listed if one.State[0].StateNumber == 3]
    assert list(dict.fromkeys(running)) == ["held", "cut", "good", "other", "leak"]
    subscription.delete()


def test_an_address_that_cannot_be_served_is_told(build: Path) -> None:
    def serve(endpoint: Endpoint) -> None:
        twin = Twin(build, TITANIUM, MACHINE, seed=3)
        with served(endpoint, machine="m", profile="p", open_build=lambda _: twin, period_s=1.0, speed=None):
            pass

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(MachineError, match="does not start"):
            serve(Endpoint(f"opc.tcp://127.0.0.1:{taken.getsockname()[1]}/twin"))
    for url in (
        "http://localhost:1",
        "opc.tcp://localhost:x",
        "opc.tcp://localhost:65536",
        "opc.tcp://localhost",
        "localhost:4840",
    ):
        with pytest.raises(MachineError, match=r"must be opc\.tcp"):
            Endpoint(url)
    with pytest.raises(MachineError, match="has no certificate"):
        Endpoint("opc.tcp://10.0.0.1:4840")
    Endpoint("opc.tcp://10.0.0.1:4840", Path("machine.der"), Path("machine.pem"))


def test_off_loopback_a_client_signs_and_encrypts(build: Path, tmp_path: Path) -> None:
    async def made(name: str, uri: str, use: x509.ObjectIdentifier) -> None:
        key, certificate = tmp_path / f"{name}.pem", tmp_path / f"{name}.der"
        await setup_self_signed_certificate(key, certificate, uri, "127.0.0.1", [use], {"commonName": name})

    asyncio.run(made("machine", "urn:freeopcua:python:server", ExtendedKeyUsageOID.SERVER_AUTH))
    asyncio.run(made("client", "urn:example.org:FreeOpcUa:opcua-asyncio", ExtendedKeyUsageOID.CLIENT_AUTH))
    twin, url = Twin(build, TITANIUM, MACHINE, seed=3), address()
    endpoint = Endpoint(url, tmp_path / "machine.der", tmp_path / "machine.pem")
    with served(endpoint, machine="m", profile="p", open_build=lambda _: twin, period_s=1.0, speed=None):
        with pytest.raises(ua.UaError), Client(url):
            pass
        client = Client(url)
        client.set_security_string(f"Basic256Sha256,SignAndEncrypt,{tmp_path}/client.der,{tmp_path}/client.pem")
        with client:
            assert Seen(client).machine.read_browse_name().Name == "m"
