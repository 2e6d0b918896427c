"""A family's parameters as a form holds them, and back as the settings that differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from batchone.design.families import load_families
from batchone.pipeline.commands.parameter_table import Parameter, parameters_of_family


@dataclass(frozen=True, slots=True)
class Field:
    """A parameter in the form: as typed, and whether that differs from the default."""

    about: Parameter
    text: str
    changed: bool


def table_of(device: str) -> tuple[Parameter, ...]:
    """The parameters of a device family, in its order."""
    return parameters_of_family(load_families()[device].parameters)


def fields_of(device: str, values: Mapping[str, Any]) -> tuple[Field, ...]:
    """The form of a family's parameters; what ``values`` leaves out has its default."""
    return tuple(_field(one, values.get(one.name, one.default)) for one in table_of(device))


def settings_of(device: str, values: Mapping[str, Any], given: Mapping[str, str]) -> list[str]:
    """``NAME=VALUE`` of each parameter that was typed otherwise than ``values``, or else its default, has it."""
    before = {field.about.name: field.text for field in fields_of(device, values)}
    typed = {name: text.strip() for name, text in given.items() if name in before}
    return [f"{name}={text}" for name, text in typed.items() if text != before[name]]


def _as_typed(value: Any) -> str:
    """A value as a form holds it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def _field(about: Parameter, value: Any) -> Field:
    return Field(about, _as_typed(value), _as_typed(value) != _as_typed(about.default))
