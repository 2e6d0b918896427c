"""The order: what is asked for, for which case, by when. Strict: an unknown key is refused by name."""

from __future__ import annotations

import datetime as dt
import json
import math
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, ValidationError, field_validator, model_validator

from batchone.pipeline.errors import OrderError

MAX_ORDER_BYTES = 1_000_000  # an order is a page of text, or some thousand drawn points; larger is a mistake or an attack
MIN_LINE_MM = 1.0  # a trajectory shorter than a drill is wide has no direction; project default
_MAX_GIVEN = 120  # characters of a wrong value that a message repeats
UNIT_TOLERANCE = 1e-6  # numerical: a normal written with seven digits passes

CaseId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Code = Annotated[str, Field(min_length=1, max_length=64)]
PointId = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]  # of the checklist of a family
MOST_VERTEBRAE = 26  # C1 to L5, with a thirteenth thoracic and a sixth lumbar one
CountedVertebra = Annotated[str, Field(pattern=r"^[Vv]ertebra-[1-9]\d?$")]
Level = Annotated[str, Field(pattern=r"^([Cc][1-7]|[Tt]([1-9]|1[0-3])|[Ll][1-6])$")]


class Model(BaseModel):
    """Base of everything read from outside: frozen, strict, no unknown keys."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


ModelT = TypeVar("ModelT", bound="Model")
DrawnT = TypeVar("DrawnT", "PlanCurve", "PlanLine", "PlanPlane", "PlanPoint", "PlanNoGo")


class Parameters(Model):
    """Base of the parameter model of a device family; field names end in the unit."""


class Prescription(Model):
    """What the prescriber asks for; by code, never by name."""

    prescriber: Code
    characteristics: Annotated[str, Field(max_length=2000)] = ""


class Target(Model):
    """Which bones or levels, and a person's word on the levels.

    ``levels`` names vertebrae of the numbered picture: ``{"vertebra-4": "T9"}`` says that the fourth from above is T9; the others
    are counted on from it. ``counted`` is how many vertebrae that picture shows. Without ``levels``, ``level_confirmed_by``
    confirms the numbers that the scan itself proposes.
    """

    bones: Annotated[tuple[Code, ...], Field(strict=False, max_length=64)] = ()
    levels: Annotated[dict[CountedVertebra, Level], Field(max_length=MOST_VERTEBRAE)] = {}
    counted: Annotated[int, Field(ge=1, le=MOST_VERTEBRAE)] | None = None
    level_confirmed_by: Code | None = None

    @model_validator(mode="after")
    def _levels_are_said_by_somebody(self) -> Target:
        if self.levels and self.level_confirmed_by is None:
            raise ValueError("levels are given, but level_confirmed_by does not say by whom")
        if self.counted is not None and not self.levels:
            raise ValueError("counted is given, but no levels")
        return self


UnitPart = Annotated[float, Field(ge=-1.0 - UNIT_TOLERANCE, le=1.0 + UNIT_TOLERANCE)]
Coordinate = Annotated[float, Field(ge=-2000.0, le=2000.0)]
Point = Annotated[tuple[Coordinate, Coordinate, Coordinate], Field(strict=False)]


class PlanCurve(Model):
    """A curve drawn by a person, in patient LPS mm; ``rim`` (closed) is the edge of a cranial defect on the outer table."""

    name: Code
    closed: bool
    points_mm: Annotated[tuple[Point, ...], Field(strict=False, min_length=3, max_length=10_000)]
    locked: bool = False


class PlanLine(Model):
    """A trajectory, in patient LPS mm: from the entry (``start_mm``) to the target (``end_mm``)."""

    name: Code
    start_mm: Point
    end_mm: Point
    locked: bool = False

    @model_validator(mode="after")
    def _has_a_direction(self) -> PlanLine:
        length_mm = math.dist(self.start_mm, self.end_mm)
        if length_mm < MIN_LINE_MM:
            raise ValueError(f"line {self.name!r} is {length_mm:.4g} mm long, at least {MIN_LINE_MM:g} mm")
        return self


class PlanPlane(Model):
    """A plane, in patient LPS: a point of it in mm and its unit normal."""

    name: Code
    origin_mm: Point
    normal: Annotated[tuple[UnitPart, UnitPart, UnitPart], Field(strict=False)]
    locked: bool = False

    @model_validator(mode="after")
    def _normal_has_length_one(self) -> PlanPlane:
        _check_unit(f"normal of plane {self.name!r}", self.normal)
        return self


def _check_unit(what: str, vector: tuple[float, float, float]) -> None:
    length = math.hypot(*vector)
    if abs(length - 1.0) > UNIT_TOLERANCE:
        unit = "" if length < UNIT_TOLERANCE else f"; write {[round(part / length, 9) for part in vector]}"
        raise ValueError(f"{what} has length {length:.9g}, must be 1 within {UNIT_TOLERANCE:g}{unit}")


class PlanPoint(Model):
    """A point, in patient LPS mm."""

    name: Code
    point_mm: Point
    locked: bool = False


class PlanNoGo(Model):
    """A structure that must not be touched, in patient LPS mm: a ball about one point, or a tube about the line through several.

    ``radius_mm`` is its own, about what was drawn; ``keep_mm`` what must stay between it and the device, its drills and its saws
    (default: project default, unverified).
    """

    name: Code
    points_mm: Annotated[tuple[Point, ...], Field(strict=False, min_length=1, max_length=10_000)]
    radius_mm: Annotated[float, Field(ge=0.0, le=100.0)] = 0.0
    keep_mm: Annotated[float, Field(gt=0.0, le=50.0)] = 2.0
    locked: bool = False


class PlanInput(Model):
    """A plan drawn by a person; names are unique within each kind.

    ``locked`` is what the person said in 3D Slicer: this one is not to be moved.
    """

    curves: Annotated[tuple[PlanCurve, ...], Field(strict=False, max_length=64)] = ()
    lines: Annotated[tuple[PlanLine, ...], Field(strict=False, max_length=64)] = ()
    planes: Annotated[tuple[PlanPlane, ...], Field(strict=False, max_length=64)] = ()
    points: Annotated[tuple[PlanPoint, ...], Field(strict=False, max_length=256)] = ()
    no_go: Annotated[tuple[PlanNoGo, ...], Field(strict=False, max_length=64)] = ()

    @field_validator("curves", "lines", "planes", "points", "no_go")
    @classmethod
    def _names_are_unique(cls, drawn: tuple[DrawnT, ...]) -> tuple[DrawnT, ...]:
        names = [one.name for one in drawn]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"more than one is named {', '.join(map(repr, twice))}")
        return drawn

    def curve(self, name: str) -> PlanCurve | None:
        """The curve of that name, or None."""
        return _named(self.curves, name)

    def line(self, name: str) -> PlanLine | None:
        """The line of that name, or None."""
        return _named(self.lines, name)

    def plane(self, name: str) -> PlanPlane | None:
        """The plane of that name, or None."""
        return _named(self.planes, name)

    def point(self, name: str) -> PlanPoint | None:
        """The point of that name, or None."""
        return _named(self.points, name)


def _named(drawn: Sequence[DrawnT], name: str) -> DrawnT | None:
    return next((one for one in drawn if one.name == name), None)


Direction = Annotated[tuple[UnitPart, UnitPart, UnitPart], Field(strict=False)]


class BuildWishes(Model):
    """How a person wants parts built: ``up`` gives, by the name of a part, the unit vector in patient LPS that is up."""

    up: Annotated[dict[Code, Direction], Field(max_length=64)] = {}

    @field_validator("up")
    @classmethod
    def _directions_have_length_one(cls, up: dict[str, tuple[float, float, float]]) -> dict[str, tuple[float, float, float]]:
        for name, direction in up.items():
            _check_unit(f"up of part {name!r}", direction)
        return up


class Instruments(Model):
    """What the theatre has: by name from the tables of instruments, or by a number where that is all there is to know."""

    drill_mm: Annotated[float, Field(gt=0.3, le=12.0)] | None = None
    saw_blade: Code | None = None
    saw_blade_thickness_mm: Annotated[float, Field(ge=0.1, le=3.0)] | None = None
    drill: Code | None = None
    wire: Code | None = None
    wire_mm: Annotated[float, Field(ge=0.6, le=4.0)] | None = None
    pin: Code | None = None
    pin_mm: Annotated[float, Field(ge=1.0, le=8.0)] | None = None
    sleeve: Code | None = None
    screw: Code | None = None

    @model_validator(mode="after")
    def _each_is_named_or_measured(self) -> Instruments:
        numbers = {"saw_blade": "saw_blade_thickness_mm", "drill": "drill_mm", "wire": "wire_mm", "pin": "pin_mm"}
        for name, number in numbers.items():
            if getattr(self, name) is not None and getattr(self, number) is not None:
                raise ValueError(f"give {name} or {number}, not both")
        return self


class Order(Model):
    """One device for one patient."""

    case: CaseId
    device: Code
    side: Literal["left", "right", "midline"]
    process: Code
    machine: Code
    due: dt.datetime
    prescription: Prescription | None = None
    target: Target = Target()
    plan: PlanInput = PlanInput()
    instruments: Instruments = Instruments()
    build: BuildWishes = BuildWishes()
    parameters: SerializeAsAny[Parameters] = Parameters()

    @field_validator("due")
    @classmethod
    def _due_has_a_zone(cls, value: dt.datetime) -> dt.datetime:
        if value.tzinfo is None:
            raise ValueError("must carry a time zone, as in 2026-11-24T08:00:00Z")
        return value


def parse_order(data: Mapping[str, Any], parameter_models: Mapping[str, type[Parameters]]) -> Order:
    """Validate an order against the parameter model of its device family.

    Parameters
    ----------
    data
        The decoded TOML.
    parameter_models
        Device name -> parameter model.

    Raises
    ------
    OrderError
        Unknown device, unknown key, or a value outside its limit; all faults are listed.
    """
    device = data.get("device")
    if not isinstance(device, str) or device not in parameter_models:
        known = ", ".join(sorted(parameter_models))
        raise OrderError(f"device is {device!r}; known devices: {known}", hint="see `batchone devices`")
    given = data.get("parameters", {})
    if not isinstance(given, Mapping):
        raise OrderError(f"[parameters] is {type(given).__name__}, must be a table", hint="see `batchone devices " + device + "`")
    faults: list[str] = []
    parameters = _validated(parameter_models[device], given, "parameters.", faults)
    rest = {key: value for key, value in data.items() if key != "parameters"}
    order = _validated(Order, rest, "", faults)
    if faults or order is None or parameters is None:
        raise OrderError(
            "order: " + "; ".join(faults), hint=f"correct the order; `batchone devices {device}` lists keys, units and limits"
        )
    return order.model_copy(update={"parameters": parameters})


def read_order(path: Path, parameter_models: Mapping[str, type[Parameters]]) -> Order:
    """Read and validate an order file (TOML) that stands for itself: one that names no other files.

    Raises
    ------
    OrderError
        Not readable, not TOML, or not valid.
    """
    return parse_order(read_order_table(path), parameter_models)


def read_order_table(path: Path) -> dict[str, Any]:
    """Decode an order file (TOML); what is in it is not looked at.

    Raises
    ------
    OrderError
        Not readable, too large, or not TOML.
    """
    try:
        size = path.stat().st_size
        if size > MAX_ORDER_BYTES:
            raise OrderError(f"order is {size} bytes, at most {MAX_ORDER_BYTES} bytes", hint="is this the order file?")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise OrderError(f"order cannot be read: {error.strerror}", hint="check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OrderError(f"order is not valid TOML: {error}", hint="`batchone order new DEVICE` writes one") from error


def _validated(model: type[ModelT], data: Mapping[str, Any], prefix: str, faults: list[str]) -> ModelT | None:
    try:
        return model.model_validate(dict(data))
    except ValidationError as error:
        for fault in error.errors():
            where = prefix + ".".join(str(part) for part in fault["loc"])
            given = "" if fault["type"] in ("missing", "extra_forbidden") else f" (given {_short(fault['input'])})"
            text = "unknown key" if fault["type"] == "extra_forbidden" else fault["msg"]
            faults.append(f"{where}: {text}{given}")
        return None


def _short(value: Any) -> str:
    """The value as written, cut off where it is a long one."""
    text = repr(value)
    return text if len(text) <= _MAX_GIVEN else text[:_MAX_GIVEN] + "..."


def order_text(order: Order) -> str:
    """The order as TOML, in the order of the model's fields; reading it back gives an equal order."""
    data = order.model_dump(exclude_none=True)
    for name, table in data.items():
        if isinstance(table, dict) and name != "parameters":
            data[name] = {key: value for key, value in table.items() if value not in ((), "", {})}
    lines = [f"{key} = {_toml(value)}" for key, value in data.items() if not isinstance(value, dict)]
    for key, table in data.items():
        if isinstance(table, dict) and table:
            lines += ["", f"[{key}]", *(f"{name} = {_toml(value)}" for name, value in table.items())]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dt.datetime):
        return value.isoformat()
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Parse ``NAME=VALUE`` texts; a value is TOML, or a plain word.

    Raises
    ------
    OrderError
        A text without ``=``.
    """
    parsed: dict[str, Any] = {}
    for text in settings:
        name, separator, value = text.partition("=")
        if not separator or not name.strip().isidentifier():
            raise OrderError(f"setting is {text!r}, must be NAME=VALUE", hint="for example --set border_gap_mm=0.4")
        try:
            parsed[name.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            parsed[name.strip()] = value.strip()
    return parsed


def changed_order(order: Order, settings: Sequence[str]) -> Order:
    """The order with changed parameters, validated by the family's own model.

    Raises
    ------
    OrderError
        Unknown parameter, or a value outside its limit.
    """
    model = type(order.parameters)
    given = {**order.parameters.model_dump(exclude_unset=True), **parse_settings(settings)}
    faults: list[str] = []
    parameters = _validated(model, given, "parameters.", faults)
    if parameters is None:
        raise OrderError("order: " + "; ".join(faults), hint=f"`batchone devices {order.device}` lists keys, units and limits")
    return order.model_copy(update={"parameters": parameters})


def with_word(order: Order, levels: Sequence[str], *, counted: int, who: str) -> Order:
    """The order with a person's word on the level of counted vertebrae, ``vertebra-4=T9``; an earlier word goes.

    Raises
    ------
    OrderError
        No such form, or no such level.
    """
    pairs = [text.partition("=") for text in levels]
    named = {vertebra.strip().lower(): level.strip().upper() for vertebra, _, level in pairs}
    if len(named) < len(pairs):
        raise OrderError(f"levels are {', '.join(levels)}: a vertebra is named twice", hint="give each one level")
    faults: list[str] = []
    word = {"bones": order.target.bones, "levels": named, "counted": counted, "level_confirmed_by": who}
    target = _validated(Target, word, "target.", faults)
    if target is None:
        raise OrderError(f"levels are {', '.join(levels)}: {'; '.join(faults)}", hint="for example --level vertebra-4=T9")
    return order.model_copy(update={"target": target})


def without_word(order: Order) -> Order:
    """The order without what a person said on counted vertebrae: whoever draws bones anew may change their count."""
    if not order.target.levels:
        return order
    nobody: dict[str, Any] = {"levels": {}, "counted": None, "level_confirmed_by": None}
    return order.model_copy(update={"target": order.target.model_copy(update=nobody)})
