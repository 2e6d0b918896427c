"""What a study holds, for a person to read before anything is decided."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from batchone.pipeline.intake.deidentify import device_text
from batchone.pipeline.intake.package import is_volume_file, open_study
from batchone.pipeline.intake.pixels import syntax_name
from batchone.pipeline.intake.protocol import protocol_findings
from batchone.pipeline.intake.series import Stack, preference, sort_files, stack_images
from batchone.pipeline.intake.volume_file import measure_volume_file
from batchone.pipeline.limits import Protocol
from batchone.pipeline.values import Finding


@dataclass(frozen=True, slots=True)
class SeriesSummary:
    """One series of a study, or the files of another kind that lie beside it. Lengths in mm, angles in degrees.

    ``readable`` says whether a true volume can be built, ``reason`` why not. ``shape`` is (slices, rows, columns);
    ``pixel_mm`` is between columns, between rows. Zeros stand where nothing could be measured.
    """

    kind: str
    images: int
    shape: tuple[int, int, int] = (0, 0, 0)
    pixel_mm: tuple[float, float] = (0.0, 0.0)
    slice_spacing_mm: float = 0.0
    slice_thickness_mm: float | None = None
    tilt_deg: float = 0.0
    kernel: str = ""
    transfer_syntax: str = ""
    readable: bool = False
    reason: str = ""
    hint: str = ""

    def findings(self, protocol: Protocol) -> tuple[Finding, ...]:
        """Measure a readable series against a family's protocol."""
        return protocol_findings(
            protocol,
            slices=self.shape[0],
            spacing_mm=self.slice_spacing_mm,
            thickness_mm=self.slice_thickness_mm,
            pixel_mm=max(self.pixel_mm),
            tilt_deg=self.tilt_deg,
        )


def inspect_study(study: Path) -> tuple[SeriesSummary, ...]:
    """The series of a study, best first, then what else lies in it; no pixel is decoded.

    Raises
    ------
    SeriesError
        The study cannot be opened.
    """
    if is_volume_file(study):
        return (_volume_summary(study),)
    contents = sort_files(open_study(study))
    stacks = stack_images(contents.images, allow_lossy=True)
    ranked = sorted(stacks, key=lambda one: (one.fault is None, preference(one)), reverse=True)
    others = (SeriesSummary(kind, count, reason="set aside") for kind, count in contents.others.items())
    return (*map(_series_summary, ranked), *others)


def _series_summary(stack: Stack) -> SeriesSummary:
    head, geometry = stack.headers[0], stack.geometry
    return SeriesSummary(
        kind="CT series",
        images=len(stack.headers),
        shape=geometry.shape if geometry else (len(stack.headers), head.integer("Rows") or 0, head.integer("Columns") or 0),
        pixel_mm=geometry.pixel_mm if geometry else (0.0, 0.0),
        slice_spacing_mm=geometry.spacing_mm if geometry else 0.0,
        slice_thickness_mm=stack.thickness_mm,
        tilt_deg=geometry.tilt_deg if geometry else 0.0,
        kernel=device_text(head, "ConvolutionKernel"),
        transfer_syntax=syntax_name(head.syntax),
        readable=stack.fault is None,
        reason=str(stack.fault) if stack.fault else "",
        hint=stack.fault.hint if stack.fault else "",
    )


def _volume_summary(study: Path) -> SeriesSummary:
    shape, spacing_mm, form = measure_volume_file(study)
    return SeriesSummary(
        kind="volume file without series metadata",
        images=1,
        shape=shape,
        pixel_mm=spacing_mm[:2],
        slice_spacing_mm=spacing_mm[2],
        transfer_syntax=form,
        readable=True,
    )
