"""The parameters of a device family as a person reads them: unit, default, limits, source; and what is wrong with a value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from batchone.pipeline.order import Parameters

_UNITS = {"mm": "mm", "mm2": "mm2", "mm3": "mm3", "deg": "deg", "hu": "HU", "s": "s"}  # ends of field names


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a family. ``choices`` is empty where any value within the limits will do."""

    name: str
    unit: str
    default: Any
    low: float | None
    high: float | None
    choices: tuple[str, ...]
    description: str
    source: str

    @property
    def limits(self) -> str:
        """The limits in words."""
        if self.choices:
            return " or ".join(self.choices)
        if self.low is None and self.high is None:
            return ""
        if self.low is None or self.high is None:
            return f"at least {self.low:g}" if self.high is None else f"at most {self.high:g}"
        return f"{self.low:g} to {self.high:g}"

    def fault(self, value: Any) -> str | None:
        """What is wrong with a value: value, limit, source; None when nothing is."""
        if not self._refuses(value):
            return None
        unit = f" {self.unit}" if self.unit else ""
        shown = f"{value:g}{unit}" if isinstance(value, int | float) and not isinstance(value, bool) else repr(value)
        return f"{self.name} is {shown}, must be {self.limits or 'true or false'}{unit} (source: {self.source})"

    def _refuses(self, value: Any) -> bool:
        if self.choices:
            return value not in self.choices
        if self.low is None and self.high is None:
            return isinstance(self.default, bool) and not isinstance(value, bool)
        if isinstance(value, bool) or not isinstance(value, int | float):
            return True
        return (self.low is not None and value < self.low) or (self.high is not None and value > self.high)


def parameters_of_family(model: type[Parameters]) -> tuple[Parameter, ...]:
    """The parameters of a family's model, in its order."""
    fields = model.model_json_schema().get("properties", {})
    return tuple(_parameter(name, field) for name, field in fields.items())


def faults(table: tuple[Parameter, ...], given: Mapping[str, Any], device: str) -> list[str]:
    """Everything that is wrong with given parameters: unknown names, and values beyond their limits."""
    known = {one.name: one for one in table}
    found = [
        f"parameter {name} is unknown to {device}; it has {', '.join(known)}" if name not in known else known[name].fault(value)
        for name, value in given.items()
    ]
    return [text for text in found if text is not None]


def _parameter(name: str, field: Mapping[str, Any]) -> Parameter:
    text = " ".join(str(field.get("description", "")).split())
    what, separator, source = text.rpartition("; ") if "enum" in field else text.partition("; ")
    return Parameter(
        name=name,
        unit=_UNITS.get(name.rpartition("_")[2], ""),
        default=field.get("default"),
        low=field.get("minimum", field.get("exclusiveMinimum")),
        high=field.get("maximum", field.get("exclusiveMaximum")),
        choices=tuple(str(one) for one in field.get("enum", ())),
        description=what if separator else text,
        source=source if separator else "project default",
    )
