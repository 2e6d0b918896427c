"""The nodes of one machine in an OPC UA server: who it is, how it is, what it measures, and the places of its job orders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from asyncua import Node, Server, ua

from batchone.factory.twin import companion
from batchone.factory.twin.companion import Spaces
from batchone.factory.twin.sensors import VALUES, unit_of

MOST_ORDERS: Final = 100  # project default: more is no queue of one machine

# of the base namespace: references HasAddIn and HasComponent; types of folders, of variables, of properties
_ADD_IN, _COMPONENT = ua.NodeId(17604, 0), ua.NodeId(47, 0)
_FOLDER, _VARIABLE, _ANALOG_UNIT, _STATE_VARIABLE = 61, 63, 17497, 2760
_STRING: Final = ua.NodeId(12, 0)
_UCUM: Final = "http://unitsofmeasure.org"


@dataclass(frozen=True, slots=True)
class Nodes:
    """What changes while a machine prints: ``values`` by name, and ``state``; ``others``: of its state, orders, responses."""

    values: dict[str, Node]
    others: dict[str, Node]


async def build(server: Server, spaces: Spaces, machine: str, profile: str) -> Nodes:
    """Make them, below the folder of machines."""
    folder = server.get_node(ua.NodeId(companion.MACHINES, spaces.machinery))
    node = await spaces.add(folder, spaces.own, machine)
    blocks = await spaces.add(node, spaces.machinery, "MachineryBuildingBlocks", _FOLDER)
    nodes = Nodes({}, {})
    await _identify(node, blocks, spaces, machine, profile)
    await _monitor(node, blocks, spaces, nodes)
    await _manage_jobs(node, blocks, spaces, nodes)
    return nodes


async def _block(node: Node, blocks: Node, spaces: Spaces, space: int, name: str, kind: ua.NodeId) -> Node:
    """A building block: an add-in of the machine, found in its folder of them too."""
    made = await spaces.add(node, space, name, kind)
    await node.delete_reference(made, _COMPONENT)
    for parent in (node, blocks):
        await parent.add_reference(made, _ADD_IN)
    return made


async def _identify(node: Node, blocks: Node, spaces: Spaces, machine: str, profile: str) -> None:
    kind = ua.NodeId(companion.MACHINE_IDENTIFICATION, spaces.machinery)
    block = await _block(node, blocks, spaces, spaces.devices, "Identification", kind)
    said: dict[str, Any] = {
        "Manufacturer": ua.LocalizedText("batchone"),
        "Model": ua.LocalizedText(f"machine twin of {profile}"),
        "SerialNumber": machine,
        "ProductInstanceUri": f"urn:batchone:twin:{machine}",
    }
    for name, value in said.items():
        await spaces.property(block, spaces.devices, name, ua.Variant(value))


async def _monitor(node: Node, blocks: Node, spaces: Spaces, nodes: Nodes) -> None:
    """State of the machine, and a variable with its unit for each value that it measures."""
    space = spaces.machinery
    monitoring = await _block(node, blocks, spaces, space, "Monitoring", ua.NodeId(companion.MONITORING, space))
    status = await spaces.add(monitoring, space, "Status", _FOLDER)
    item = await _block(node, blocks, spaces, space, "MachineryItemState", ua.NodeId(companion.MACHINE_STATE, space))
    await status.add_reference(item, _COMPONENT)
    nodes.others["item-state"], nodes.others["item-state-id"] = await _current_state(item, spaces)
    nodes.values["state"] = await spaces.value(status, spaces.own, "State", "idle", _VARIABLE)
    process = await spaces.add(monitoring, space, "Process", _FOLDER)
    for name in VALUES:
        made = nodes.values[name] = await spaces.value(process, spaces.own, name, 0.0, _ANALOG_UNIT)
        unit = ua.EUInformation(NamespaceUri=_UCUM, UnitId=-1, DisplayName=ua.LocalizedText(unit_of(name)))
        await spaces.property(made, 0, "EngineeringUnits", ua.Variant(unit))


async def _manage_jobs(node: Node, blocks: Node, spaces: Spaces, nodes: Nodes) -> None:
    space, jobs_space = spaces.job_control, spaces.jobs
    jobs = await _block(node, blocks, spaces, jobs_space, "JobManagement", ua.NodeId(companion.JOB_MANAGEMENT, jobs_space))
    control = await spaces.add(jobs, jobs_space, "JobOrderControl", ua.NodeId(companion.ORDER_RECEIVER, space))
    results = await spaces.add(jobs, jobs_space, "JobOrderResults", ua.NodeId(companion.RESPONSE_PROVIDER, space))
    await _current_state(control, spaces)
    await spaces.property(control, space, "MaxDownloadableJobOrders", ua.Variant(MOST_ORDERS, ua.VariantType.UInt16))
    orders = await _list(control, spaces, "JobOrderList", "ISA95JobOrderAndStateDataType")
    responses = await _list(results, spaces, "JobOrderResponseList", "ISA95JobResponseDataType")
    await _list(control, spaces, "WorkMaster", "ISA95WorkMasterDataType")
    for name in ("MaterialClassID", "MaterialDefinitionID", "EquipmentID", "PhysicalAssetID", "PersonnelID"):
        none = ua.Variant([], ua.VariantType.String, is_array=True)
        await spaces.value(control, space, name, none, _VARIABLE, _STRING)
    nodes.others.update(control=control, results=results, orders=orders, responses=responses)


async def _current_state(machine: Node, spaces: Spaces) -> tuple[Node, Node]:
    current = await spaces.value(machine, 0, "CurrentState", ua.LocalizedText(""), _STATE_VARIABLE)
    return current, await spaces.property(current, 0, "Id", ua.Variant(ua.NodeId(), ua.VariantType.NodeId))


async def _list(parent: Node, spaces: Spaces, name: str, structure: str) -> Node:
    none = ua.Variant([], ua.VariantType.ExtensionObject, is_array=True)
    return await spaces.value(parent, spaces.job_control, name, none, _VARIABLE, spaces.structure(structure))
