"""What a device family is: parameters, a proposal, a builder, checks, and limits kept as data."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from typing import TypeVar, cast

from batchone.design.tables import Tables
from batchone.pipeline.limits import Limit, Protocol
from batchone.pipeline.machine import Machine
from batchone.pipeline.order import Model, Order, Parameters
from batchone.pipeline.process import Process
from batchone.pipeline.values import Anatomy, Device, Finding, Plan

ParametersT = TypeVar("ParametersT", bound=Parameters)


class FamilyLimits(Model):
    """The data file of a family: ``protocol``, ``envelope`` and ``gates``."""

    protocol: Protocol
    envelope: dict[str, Limit]
    gates: dict[str, Limit]


@dataclass(frozen=True)
class Checked:
    """What a family's own checks see."""

    device: Device
    anatomy: Anatomy
    plan: Plan
    order: Order
    process: Process
    machine: Machine
    tables: Tables
    limits: FamilyLimits


@dataclass(frozen=True)
class Family:
    """One device family.

    ``needs`` names the bones that must be in the Anatomy; ``propose`` and ``build`` are pure functions, and get
    the instruments and clearances of the site as ``Tables``;
    ``checks`` measure what only this family has. Limits are read from ``design/families/<module>.toml``.
    """

    name: str
    title: str
    parameters: type[Parameters]
    needs: tuple[str, ...]
    propose: Callable[[Anatomy, Order, Tables], Plan]
    build: Callable[[Anatomy, Plan, Order, Process, Tables], Device]
    checks: tuple[Callable[[Checked], tuple[Finding, ...]], ...]

    @cached_property
    def limits(self) -> FamilyLimits:
        """Protocol, design envelope and gates, validated."""
        name = self.name.replace("-", "_") + ".toml"
        text = resources.files("batchone.design.families").joinpath(name).read_text(encoding="utf-8")
        return FamilyLimits.model_validate(tomllib.loads(text))


def parameters_of(order: Order, model: type[ParametersT]) -> ParametersT:
    """The order's parameters, typed as the family's own model (the order was validated against it)."""
    del model
    return cast("ParametersT", order.parameters)
