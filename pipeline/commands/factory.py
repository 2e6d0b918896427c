"""``batchone factory demo``: the whole way from DICOM to a released device record, on two machine twins."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from batchone.factory.demo import Shown

factory_app = typer.Typer(no_args_is_help=True, help="A small factory on one PC.")
_DELIVERS = "demo-technician"


@factory_app.callback()
def factory() -> None:
    """A small factory on one PC."""


@factory_app.command("demo")
def demo(
    device: Annotated[str, typer.Option("--device", help="Device family.")] = "cranial-implant",
    out: Annotated[Path, typer.Option("--out", help="Folder of the factory: its site, inbox and cells.")] = Path("factory-demo"),
    speed: Annotated[float, typer.Option("--speed", min=1.0, help="Seconds of a machine in a second of the clock.")] = 1800.0,
) -> None:
    """Make a sample case, print it on one of two twins (one loses its power), measure, sign, label and deliver it."""
    from rich.console import Console

    from batchone.factory.demo import make_part
    from batchone.pipeline.case_workshop import record_step
    from batchone.pipeline.cli import sample_job
    from batchone.pipeline.commands.cell import told_to

    job = sample_job(device, out / "site")
    if job is None:
        raise typer.Exit(4)
    console = Console(stderr=True)
    console.print(f"Factory: two machine twins, {speed:g} s of theirs in a second")
    console.print(f"  see them: batchone serve --site {out / 'site'}, then /machines", highlight=False)
    made = make_part(job, out, speed=speed, deliver=told_to(out / "site"), tell=lambda shown: _tell(console, shown))
    record = made.record
    for step in ("sterilisation-done", "delivered"):
        record_step(out / "site", record.as_built.bodies[0].case, step, who=_DELIVERS, job=job.name)
    built = record.as_built
    typer.echo(f"Device record: {made.folder / 'record.json'}")
    typer.echo(f"  {record.verdict}; UDI {record.udi}; attempt {record.attempt} on {built.serial}, lot {built.lot.lot}")
    typer.echo(f"  {built.layers_built} layers in {built.seconds / 3600.0:.1f} h of the machine, {built.energy_kwh:.1f} kWh")
    typer.echo(
        f"  {len(record.steps)} steps signed, {sum(step.measured_mm is not None for step in record.steps)} of them measured"
    )
    for folder in made.failed:
        typer.echo(f"Failed attempt: {folder / 'record.json'}")
    typer.echo(f"Label: {made.folder / 'label.png'}")


def _tell(console: object, shown: Shown) -> None:
    from rich.console import Console

    news = shown.news
    if not isinstance(console, Console) or (news.kind == "layers" and news.layer % 10):
        return
    hours = f"{news.seconds / 3600.0:5.1f} h" if news.seconds else "       "
    layer = f"layer {news.layer + 1} of {news.layers}" if news.kind == "layers" else ""
    console.print(f"  {shown.cell}  {hours}  {news.kind:9} attempt {news.attempt}  {layer}{news.text[:90]}", highlight=False)
