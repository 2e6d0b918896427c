"""Names, identifiers and structures of the OPC UA companion specifications that a machine shows, made node by node.

Namespaces, browse names, identifiers and fields are those of OPC 40001-1 (Machinery 1.04), OPC 40001-3 (Machinery Job Management
1.0.1), OPC 10031-4 (ISA-95 Job Control 2.00) and OPC 10000-100 (Devices): a client that knows these finds its types and can
read and write the structures. What is not used of them is left out, and types do not declare the members of their instances:
it is not the whole of their nodesets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from asyncua import Node, Server, ua
from asyncua.common.manage_nodes import create_data_type, create_encoding
from asyncua.common.structures104 import new_struct_field

DEVICES: Final = "http://opcfoundation.org/UA/DI/"
MACHINERY: Final = "http://opcfoundation.org/UA/Machinery/"
JOB_CONTROL: Final = "http://opcfoundation.org/UA/ISA95-JOBCONTROL_V2/"
JOBS: Final = "http://opcfoundation.org/UA/Machinery/Jobs/"
OWN: Final = "urn:batchone:factory"

MACHINES: Final = 1001  # the folder below Objects in which a client finds all machines
MACHINE_IDENTIFICATION, MACHINE_STATE, MONITORING = 1012, 1002, 1014  # types of Machinery
ITEM_STATES: Final = {"OutOfService": 5004, "NotAvailable": 5005, "Executing": 5006, "NotExecuting": 5007}
JOB_MANAGEMENT: Final = 1003  # type of Machinery Jobs
ORDER_RECEIVER, RESPONSE_PROVIDER = 1002, 1003  # types of ISA-95 Job Control
JOB_STATES: Final = {  # of a job order: StateNumber, identifier
    "NotAllowedToStart": (1, 5035), "AllowedToStart": (2, 5036), "Running": (3, 5037),
    "Interrupted": (4, 5038), "Ended": (5, 5039), "Aborted": (6, 5040),
}  # fmt: skip
NO_ERROR, UNKNOWN_ORDER, INVALID_STATUS, NOT_ACCEPTED, INVALID_REQUEST = 1, 2, 8, 16, 1 << 32  # ReturnStatus, annex B.2

# base types of OPC UA
_STRING, _DATE, _TEXT, _VALUE, _UINT32, _INT16, _PATH, _UNITS, _DECIMAL = 12, 13, 21, 24, 7, 4, 540, 887, 12878
_FINITE_STATE_MACHINE, _BASE_OBJECT, _STATE, _BASE_VARIABLE = 2771, 58, 2307, 63
_HAS_TYPE: Final = ua.NodeId(40, 0)

_Field = tuple[str, int | str, str]  # name; base type, or name of a structure; "[]" of an array, "?" of an optional one
_PROPERTY, _PARAMETER = "ISA95PropertyDataType", "ISA95ParameterDataType"


def _resource(what: str) -> tuple[_Field, ...]:
    return (
        ("ID", _STRING, ""), ("Description", _TEXT, "[]?"), (f"{what}Use", _STRING, "?"), ("Quantity", _DECIMAL, "?"),
        ("EngineeringUnits", _UNITS, "?"), ("Properties", _PROPERTY, "[]?"),
    )  # fmt: skip


def _resources(of: str) -> tuple[_Field, ...]:
    return tuple(
        (f"{what}{of}", f"ISA95{what}DataType", "[]?") for what in ("Personnel", "Equipment", "PhysicalAsset", "Material")
    )


STRUCTURES: Final[Mapping[str, tuple[int, int, tuple[_Field, ...]]]] = {  # identifier, that of the binary encoding, fields
    _PROPERTY: (3002, 5002, (
        ("ID", _STRING, ""), ("Value", _VALUE, ""), ("Description", _TEXT, "[]?"), ("EngineeringUnits", _UNITS, "?"),
        ("Subproperties", _PROPERTY, "[]?"),
    )),
    _PARAMETER: (3003, 5005, (
        ("ID", _STRING, ""), ("Value", _VALUE, ""), ("Description", _TEXT, "[]?"), ("EngineeringUnits", _UNITS, "?"),
        ("Subparameters", _PARAMETER, "[]?"),
    )),
    "ISA95EquipmentDataType": (3005, 5008, _resource("Equipment")),
    "ISA95StateDataType": (3006, 5029, (("BrowsePath", _PATH, ""), ("StateText", _TEXT, ""), ("StateNumber", _UINT32, ""))),
    "ISA95WorkMasterDataType": (3007, 5011, (
        ("ID", _STRING, ""), ("Description", _TEXT, "?"), ("Parameters", _PARAMETER, "[]?"),
    )),
    "ISA95MaterialDataType": (3010, 5017, (
        ("MaterialClassID", _STRING, "?"), ("MaterialDefinitionID", _STRING, "?"), ("MaterialLotID", _STRING, "?"),
        ("MaterialSublotID", _STRING, "?"), ("Description", _TEXT, "[]?"), ("MaterialUse", _STRING, "?"),
        ("Quantity", _DECIMAL, "?"), ("EngineeringUnits", _UNITS, "?"), ("Properties", _PROPERTY, "[]?"),
    )),
    "ISA95PersonnelDataType": (3011, 5020, _resource("Personnel")),
    "ISA95PhysicalAssetDataType": (3012, 5023, _resource("PhysicalAsset")),
    "ISA95JobOrderDataType": (3008, 5014, (
        ("JobOrderID", _STRING, ""), ("Description", _TEXT, "[]?"), ("WorkMasterID", "ISA95WorkMasterDataType", "[]?"),
        ("StartTime", _DATE, "?"), ("EndTime", _DATE, "?"), ("Priority", _INT16, "?"), ("JobOrderParameters", _PARAMETER, "[]?"),
        *_resources("Requirements"),
    )),
    "ISA95JobResponseDataType": (3013, 5026, (
        ("JobResponseID", _STRING, ""), ("Description", _TEXT, "?"), ("JobOrderID", _STRING, ""), ("StartTime", _DATE, "?"),
        ("EndTime", _DATE, "?"), ("JobState", "ISA95StateDataType", "[]"), ("JobResponseData", _PARAMETER, "[]?"),
        *_resources("Actuals"),
    )),
    "ISA95JobOrderAndStateDataType": (3015, 5032, (
        ("JobOrder", "ISA95JobOrderDataType", ""), ("State", "ISA95StateDataType", "[]"),
    )),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Spaces:
    """The indices of the namespaces in a server."""

    devices: int
    machinery: int
    job_control: int
    jobs: int
    own: int

    async def add(self, parent: Node, space: int, name: str, kind: int | ua.NodeId = _BASE_OBJECT) -> Node:
        """An object of a type, without its members; its identifier is our own, its browse name that of the namespace."""
        made = await parent.add_object(ua.NodeId(0, self.own), ua.QualifiedName(name, space))
        await make_of(made, _BASE_OBJECT, kind)
        return made

    async def value(self, parent: Node, space: int, name: str, value: Any, kind: int, data_type: ua.NodeId | None = None) -> Node:
        """A variable of a type, of the value's data type where none is told."""
        made = await parent.add_variable(ua.NodeId(0, self.own), ua.QualifiedName(name, space), value, datatype=data_type)
        await make_of(made, _BASE_VARIABLE, kind)
        return made

    async def property(self, parent: Node, space: int, name: str, value: ua.Variant) -> Node:
        """A property."""
        made: Node = await parent.add_property(ua.NodeId(0, self.own), ua.QualifiedName(name, space), value)
        return made

    def structure(self, name: str) -> ua.NodeId:
        """A structure of ISA-95 Job Control."""
        return ua.NodeId(STRUCTURES[name][0], self.job_control)


async def make_of(node: Node, was: int, kind: int | ua.NodeId) -> None:
    """Give a node another type, without the members that the server would add of itself."""
    other = ua.NodeId(kind, 0) if isinstance(kind, int) else kind
    if other != ua.NodeId(was, 0):
        await node.delete_reference(ua.NodeId(was, 0), _HAS_TYPE)
        await node.add_reference(other, _HAS_TYPE)


async def add_types(server: Server) -> Spaces:
    """Give a server the namespaces, the types and the structures, and the folder of machines."""
    uris = (DEVICES, MACHINERY, JOB_CONTROL, JOBS, OWN)
    spaces = Spaces(*[await server.register_namespace(uri) for uri in uris])
    for name, (identifier, encoding, fields) in STRUCTURES.items():
        await _add_structure(server, spaces, name, identifier, encoding, fields)
    await server.load_data_type_definitions()
    types = (
        (_BASE_OBJECT, spaces.machinery, MACHINE_IDENTIFICATION, "MachineIdentificationType"),
        (_BASE_OBJECT, spaces.machinery, MONITORING, "MonitoringType"),
        (_FINITE_STATE_MACHINE, spaces.machinery, MACHINE_STATE, "MachineryItemState_StateMachineType"),
        (_BASE_OBJECT, spaces.jobs, JOB_MANAGEMENT, "JobManagementType"),
        (_FINITE_STATE_MACHINE, spaces.job_control, ORDER_RECEIVER, "ISA95JobOrderReceiverObjectType"),
        (_BASE_OBJECT, spaces.job_control, RESPONSE_PROVIDER, "ISA95JobResponseProviderObjectType"),
    )
    for parent, space, identifier, name in types:
        await server.get_node(ua.NodeId(parent, 0)).add_object_type(ua.NodeId(identifier, space), ua.QualifiedName(name, space))
    for name, identifier in ITEM_STATES.items():
        await _add_state(server.get_node(ua.NodeId(MACHINE_STATE, spaces.machinery)), spaces, name, identifier, None)
    for name, (number, identifier) in JOB_STATES.items():
        await _add_state(server.get_node(ua.NodeId(ORDER_RECEIVER, spaces.job_control)), spaces, name, identifier, number)
    folder = ua.QualifiedName("Machines", spaces.machinery)
    await server.nodes.objects.add_folder(ua.NodeId(MACHINES, spaces.machinery), folder)
    return spaces


async def _add_structure(
    server: Server, spaces: Spaces, name: str, identifier: int, encoding: int, fields: tuple[_Field, ...]
) -> None:
    base, space = server.nodes.base_structure_type, spaces.job_control
    node = await create_data_type(base, ua.NodeId(identifier, space), ua.QualifiedName(name, space))
    binary = await create_encoding(node, ua.NodeId(encoding, space), ua.QualifiedName("Default Binary", 0))
    optional = any("?" in how for _, _, how in fields)
    kinds = ua.StructureType
    await node.write_data_type_definition(
        ua.StructureDefinition(
            DefaultEncodingId=binary.nodeid,
            BaseDataType=base.nodeid,
            StructureType=kinds.StructureWithOptionalFields if optional else kinds.Structure,
            Fields=[
                new_struct_field(
                    field,
                    spaces.structure(of) if isinstance(of, str) else ua.NodeId(of, 0),
                    array="[]" in how,
                    optional="?" in how,
                )
                for field, of, how in fields
            ],
        )
    )


async def _add_state(kind: Node, spaces: Spaces, name: str, identifier: int, number: int | None) -> None:
    space = kind.nodeid.NamespaceIndex
    state = await kind.add_object(ua.NodeId(identifier, space), ua.QualifiedName(name, space))
    await make_of(state, _BASE_OBJECT, _STATE)
    if number is not None:
        await spaces.property(state, 0, "StateNumber", ua.Variant(number, ua.VariantType.UInt32))
