"""What a device family is: parameters, a proposal, a builder, checks, and limits kept as data."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from importlib import resources
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar, cast

from pydantic import Field

from batchone.design.tables import Tables
from batchone.pipeline.errors import MachineError
from batchone.pipeline.limits import Limit, Protocol
from batchone.pipeline.machine import Machine
from batchone.pipeline.order import Model, Order, Parameters, PointId
from batchone.pipeline.process import Process
from batchone.pipeline.values import Anatomy, Device, Finding, Plan

if TYPE_CHECKING:  # loaded when a seat is scored
    from batchone.design.seating.make import Score

CheckSet = Literal["interactive", "release"]
"""Interactive checks run after each changed parameter (at most 2 s), release checks are all of them (at most 10 s)."""

ParametersT = TypeVar("ParametersT", bound=Parameters)


class Point(Model):
    """What a reviewer looks at and confirms before signing, and why."""

    text: Annotated[str, Field(min_length=1, max_length=300, pattern=r"^[^\x00-\x1f\x7f]+$")]
    source: Annotated[str, Field(min_length=1)]


class FamilyLimits(Model):
    """The data file of a family: ``protocol``, ``envelope``, ``gates``, and the ``checklist`` at signing, by id."""

    protocol: Protocol
    envelope: dict[str, Limit]
    gates: dict[str, Limit]
    checklist: dict[PointId, Point] = Field(default_factory=dict)


@dataclass(frozen=True)
class Checked:
    """What a family's own checks see, and the seats that they scored, by part: the map of one is drawn from its score."""

    device: Device
    anatomy: Anatomy
    plan: Plan
    order: Order
    process: Process
    machine: Machine
    tables: Tables
    limits: FamilyLimits
    only: CheckSet = "release"
    scores: dict[str, Score] = field(default_factory=dict, repr=False)


FamilyCheck = Callable[[Checked], tuple[Finding, ...]]


def measured(checks: tuple[FamilyCheck, ...], checked: Checked) -> tuple[Finding, ...]:
    """The findings of several checks, in their order; they run side by side, so let the longest be the first."""
    from batchone.pipeline.side_by_side import side_by_side

    return tuple(chain.from_iterable(side_by_side([partial(check, checked) for check in checks])))


@dataclass(frozen=True)
class Family:
    """One device family.

    ``needs`` names the bones that must be in the Anatomy; ``propose`` and ``build`` are pure functions, and get
    the instruments and clearances of the site as ``Tables``;
    ``checks`` measure what only this family has, in both sets of checks; ``release_checks`` what takes too long after each
    changed parameter. A check may do less where ``Checked.only`` says interactive. Its limits lie in ``<name>.toml`` (``-``
    written ``_``) of ``package``, which an installed family sets to its own.
    """

    name: str
    title: str
    parameters: type[Parameters]
    needs: tuple[str, ...]
    propose: Callable[[Anatomy, Order, Tables], Plan]
    build: Callable[[Anatomy, Plan, Order, Process, Tables], Device]
    checks: tuple[FamilyCheck, ...]
    package: str = "batchone.design.families"
    release_checks: tuple[FamilyCheck, ...] = ()

    def checks_of(self, only: CheckSet) -> tuple[FamilyCheck, ...]:
        """The family's own checks of a set, in the order in which they are reported."""
        return self.checks if only == "interactive" else (*self.checks, *self.release_checks)

    @cached_property
    def limits(self) -> FamilyLimits:
        """Protocol, design envelope and gates, validated.

        Raises
        ------
        MachineError
            The package of the family has no such file, or the file breaks the model.
        """
        name = self.name.replace("-", "_") + ".toml"
        try:
            text = resources.files(self.package).joinpath(name).read_text(encoding="utf-8")
            return FamilyLimits.model_validate(tomllib.loads(text))
        except (ImportError, OSError, ValueError) as error:
            raise MachineError(
                f"device family {self.name}: its limits {name} of package {self.package} cannot be read: {error}",
                hint="correct or remove the package that declares it",
            ) from error


def parameters_of(order: Order, model: type[ParametersT]) -> ParametersT:
    """The order's parameters, typed as the family's own model (the order was validated against it)."""
    del model
    return cast("ParametersT", order.parameters)
