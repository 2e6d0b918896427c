"""The command line. Light on purpose: everything heavy is imported by the command that needs it."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.exceptions import TyperException

from batchone.pipeline.commands.audit import audit
from batchone.pipeline.commands.backup import backup, restore
from batchone.pipeline.commands.cases import cases
from batchone.pipeline.commands.cell import cell_app
from batchone.pipeline.commands.checklist import CheckedOption, ticked_points
from batchone.pipeline.commands.decide import cancel, hand_over, revise
from batchone.pipeline.commands.doctor import doctor
from batchone.pipeline.commands.factory import factory_app
from batchone.pipeline.commands.genealogy import trace
from batchone.pipeline.commands.nest import nest
from batchone.pipeline.commands.order_new import order_new
from batchone.pipeline.commands.receive import receive
from batchone.pipeline.commands.return_job import return_job
from batchone.pipeline.commands.serve import serve
from batchone.pipeline.commands.status import status
from batchone.pipeline.commands.submit import submit
from batchone.pipeline.commands.telemetry import telemetry
from batchone.pipeline.commands.verify import verify
from batchone.pipeline.commands.worker import worker
from batchone.pipeline.commands.workshop import remake, workshop
from batchone.pipeline.errors import BatchoneError, OrderError, in_stage
from batchone.pipeline.kernel_cache import use_kernel_cache
from batchone.pipeline.memory import keep_freed_memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchone.pipeline.case import Result
    from batchone.pipeline.order import Order

app = typer.Typer(
    name="batchone",
    help="From a CT study and an order to a signed, print-ready job folder. Not a cleared medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
order_app = typer.Typer(help="Write orders.", no_args_is_help=True)
app.add_typer(order_app, name="order")

SITE_HELP = "Site folder; default $BATCHONE_SITE, else ./batchone-site."
SiteOption = Annotated[Path | None, typer.Option("--site", help=SITE_HELP)]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, everything else on stderr.")]


def main() -> None:
    """Entry point: turns expected failures into one message and the exit code of who must act."""
    use_kernel_cache()
    keep_freed_memory()
    try:
        code = app(standalone_mode=False)
    except BatchoneError as error:
        _tell(error)
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("batchone"):
            raise
        typer.echo(f"batchone: this needs the whole installation: {error.name} is missing", err=True)
        typer.echo("  what to do: pip install 'batchone[site]'", err=True)
        sys.exit(5)
    except (KeyboardInterrupt, typer.Abort):
        sys.exit(130)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except TyperException as error:
        typer.echo(f"batchone: {error.format_message()}\n  what to do: see `batchone --help`", err=True)
        sys.exit(2)
    sys.exit(code if isinstance(code, int) else 0)


@app.command()
def run(
    order: Annotated[Path, typer.Argument(help="The order (TOML).")],
    study: Annotated[Path, typer.Option("--study", help="DICOM folder, zip, or NIfTI/NRRD/MetaImage volume.")],
    out: Annotated[Path, typer.Option("--out", help="Site folder.")],
    approve_as: Annotated[str | None, typer.Option("--approve-as", help="Approve the device under this name.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Take an order and a study to a job folder, or to the person who must approve it."""
    from batchone.pipeline.case_order import read_case_order

    _run(read_case_order(order), study, site=out, approve_as=approve_as, as_json=as_json)


@app.command()
def demo(
    device: Annotated[str, typer.Option("--device", help="Device family.")] = "cranial-implant",
    out: Annotated[Path, typer.Option("--out", help="Site folder.")] = Path("demo"),
) -> None:
    """Make a sample study and run it to a job folder."""
    job = sample_job(device, out)
    if job is not None:
        typer.echo("Pictures to open:")
        for picture in sorted((job / "pictures").glob("*.png")):
            typer.echo(f"  {picture}")


def sample_job(device: str, site: Path) -> Path | None:
    """Make a sample study and run it to a job folder, anew where an earlier one lies; None when it stops before."""
    from batchone.pipeline.case import case_folder
    from batchone.pipeline.case_order import read_case_order
    from batchone.pipeline.job.signature import DEMONSTRATOR
    from batchone.pipeline.store import begin_anew
    from batchone.samples.dicom import write_demo

    again = (site / "sample").is_dir()
    site.mkdir(parents=True, exist_ok=True)
    order_file, study = write_demo(site / "sample" / device, device=device)
    order = read_case_order(order_file)
    if again:  # the folder is an earlier demo's own: show the whole job once more
        begin_anew(case_folder(site, order.case))
    return _run(order, study, site=site, approve_as=DEMONSTRATOR, as_json=False, demonstration=True).job


@app.command()
def devices(
    name: Annotated[str | None, typer.Argument()] = None,
    instruments: Annotated[bool, typer.Option("--instruments", help="The tables of instruments and clearances.")] = False,
    site: SiteOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the device families, or one family's parameters with units, defaults, limits and sources."""
    if instruments:
        _tables(name, site, as_json=as_json)
        return
    from batchone.design.families import load_families

    families = load_families()
    if name is not None and name not in families:
        raise OrderError(f"device is {name!r}; known devices: {', '.join(sorted(families))}", hint="see `batchone devices`")
    if name is None:
        tree: Any = [{"name": f.name, "title": f.title, "needs": list(f.needs)} for f in families.values()]
        lines = [f"{f.name:20} {f.title}" for f in families.values()]
    else:
        family = families[name]
        tree = {
            "name": family.name,
            "title": family.title,
            "parameters": family.parameters.model_json_schema(),
            "limits": family.limits.model_dump(mode="json"),
        }
        lines = [f"{family.name}: {family.title}", *_parameter_lines(tree["parameters"])]
    typer.echo(_json(tree) if as_json else "\n".join(lines))


def _tables(name: str | None, site: Path | None, *, as_json: bool) -> None:
    from batchone.design.table_files import site_tables
    from batchone.pipeline.commands.instrument_list import instrument_lines

    if name is not None:
        raise OrderError(f"--instruments lists what counts for every device; {name!r} was given", hint="leave the device out")
    tables = site_tables(_site(site))
    typer.echo(_json(tables.model_dump(mode="json")) if as_json else "\n".join(instrument_lines(tables)))


@app.command()
def inspect(
    study: Path,
    device: Annotated[str | None, typer.Option("--device")] = None,
    site: SiteOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say what is in a study, and whether it is good enough for a device."""
    from batchone.pipeline.config import read_site_settings
    from batchone.pipeline.inspection import inspect_for

    report = inspect_for(study, device, settings=read_site_settings(_site(site)))
    typer.echo(_json(report.tree) if as_json else "\n".join(report.lines))
    if not report.usable:
        raise typer.Exit(2)


@app.command()
def review(
    case: str,
    name: Annotated[str, typer.Option("--as", help="Who reviews.")],
    approve: Annotated[bool, typer.Option("--approve", help="Approve and continue to the job folder.")] = False,
    return_why: Annotated[str | None, typer.Option("--return", help="Send back, with the reason.")] = None,
    reject_why: Annotated[str | None, typer.Option("--reject", help="End the case, with the reason.")] = None,
    waive: Annotated[str | None, typer.Option("--waive", help="A failed check that may stand; needs --reason.")] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why it may stand.")] = "",
    checked: CheckedOption = "",
    site: SiteOption = None,
    as_json: JsonOption = False,
) -> None:
    """Approve a checked device, return or reject it with a reason (exit 4), or waive a failed check that may be waived."""
    from batchone.pipeline.case import run_case, waive_check
    from batchone.pipeline.case_answers import reject_case, return_case
    from batchone.pipeline.preview import refuse_preview, refuse_unseen
    from batchone.pipeline.store import CaseFolder

    folder, order = _find_case(case, site)
    if approve + sum(given is not None for given in (return_why, reject_why, waive)) != 1:
        raise OrderError("give one of --approve, --return WHY, --reject WHY, --waive CHECK", hint="see `batchone review --help`")
    if waive is not None:
        waive_check(folder.parent.parent, order, waive, who=name, reason=reason)
        _report(run_case(order, None, site=folder.parent.parent, until="check"), as_json=as_json)
        return
    if return_why is not None or reject_why is not None:
        with in_stage(order.case, "review"):
            refuse_preview(CaseFolder(folder))
        answer, passphrase = (reject_case if return_why is None else return_case), _passphrase(folder.parent.parent, name)
        answer(CaseFolder(folder), who=name, why=return_why or reject_why or "", passphrase=passphrase)
        typer.echo(f"case {order.case}: {'rejected' if return_why is None else 'returned'} by {name}", err=True)
        raise typer.Exit(4)
    root = folder.parent.parent
    with in_stage(order.case, "review"):
        refuse_unseen(CaseFolder(folder))
    ticked = ticked_points(order.device, checked)
    result = run_case(order, None, site=root, approve_as=name, passphrase=_passphrase(root, name), ticked=ticked)
    _report(result, as_json=as_json)


@app.command()
def design(
    case: str,
    changes: Annotated[list[str] | None, typer.Option("--set", help="PARAMETER=VALUE; may be repeated.")] = None,
    markups: Annotated[
        list[str] | None, typer.Option("--markups", help="[NAME=]FILE: what was moved in 3D Slicer; may be repeated.")
    ] = None,
    checks: Annotated[
        Literal["interactive", "release"],
        typer.Option("--checks", help="interactive: a quick look; nothing is released on it."),
    ] = "release",
    site: SiteOption = None,
    as_json: JsonOption = False,
) -> None:
    """Design and check again, with changed parameters or a changed plan; what does not depend on them is kept."""
    from batchone.pipeline.case_decisions import refuse_approved
    from batchone.pipeline.case_order import read_case_order, replace_order
    from batchone.pipeline.markups.order_file import changed_plan
    from batchone.pipeline.order import changed_order
    from batchone.pipeline.store import CaseFolder

    folder, order = _find_case(case, site)
    if changes or markups:
        order = changed_plan(changed_order(order, changes or ()), markups or ())
        with CaseFolder(folder).locked():
            refuse_approved(CaseFolder(folder))
            replace_order(CaseFolder(folder), order, "batchone design")
        order = read_case_order(folder / "order.toml")
    _followed(order, None, as_json=as_json, site=folder.parent.parent, until="check", checks=checks)


@app.command()
def segment(
    case: str,
    labels: Annotated[
        Path | None, typer.Option("--labels", help="Edited labels: .seg.nrrd, DICOM SEG or NIfTI, on the scan's grid.")
    ] = None,
    who: Annotated[str, typer.Option("--as", help="Who edited the labels or confirmed the level; needed with both.")] = "",
    automatic: Annotated[bool, typer.Option("--automatic", help="Drop edited labels.")] = False,
    levels: Annotated[
        list[str] | None,
        typer.Option("--level", help="vertebra-4=T9: the fourth from above in segment/levels.png is T9; may be repeated."),
    ] = None,
    export: Annotated[Path | None, typer.Option("--export", help="Write all labels to this file as a DICOM SEG.")] = None,
    site: SiteOption = None,
    as_json: JsonOption = False,
) -> None:
    """Segment again, with labels that a person edited or a level that a person confirmed; then design and check."""
    from batchone.pipeline.case import run_case
    from batchone.pipeline.case_labels import confirm_levels, drop_labels, export_labels, take_labels

    folder, order = _find_case(case, site)
    root = folder.parent.parent
    if (labels is not None) + automatic + bool(levels) > 1:
        raise OrderError(
            "give one of --labels FILE, --level VERTEBRA=LEVEL, --automatic",
            hint="after new labels look at the numbered picture again, then confirm the level",
        )
    if (labels is not None or levels) and not who.strip():
        raise OrderError("a person's labels or levels want a name", hint="add --as NAME; it stands in the report")
    if labels is not None:
        order = take_labels(root, order, labels, who=who)
    if levels:
        order = confirm_levels(root, order, levels, who=who)
    if automatic:
        order = drop_labels(root, order, who=who or "batchone segment")
    if export is not None:
        run_case(order, None, site=root, until="segment")
        export_labels(root, order, export)
        typer.echo(f"Labels: {export}", err=True)
    _report(run_case(order, None, site=root, until="check"), as_json=as_json)


@app.command()
def layers(
    job: Path,
    at: Annotated[float, typer.Option("--at", help="Height above the plate, mm.")],
    picture: Annotated[Path | None, typer.Option("--picture", help="Draw the layer into this PNG file.")] = None,
    text: Annotated[Path | None, typer.Option("--text", help="Write all layers into this file, as text (ASCII CLI).")] = None,
    slices: Annotated[Path | None, typer.Option("--slices", help="Write plate and layers into this 3MF file.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Print what a layer of a job or a build holds at a height: loops, area, hatches; draw it; write all as text or 3MF."""
    from batchone.pipeline.inspection import layer_at

    tree = layer_at(job, at, picture, text, slices)
    words = (
        "layer {layer} of {layers}, top at {top_mm:.3f} mm: {loops} loops, area {area_mm2:.2f} mm2, "
        "{hatches} hatches of {hatches_mm:.1f} mm"
    )
    drawn = [
        f"  {one['label']}: {one['contours']} contours, {one['lines']} lines of {one['lines_mm']:.1f} mm"
        for one in tree["regions"]
    ]
    typer.echo(_json(tree) if as_json else "\n".join([words.format(**tree), *drawn]))


order_app.command("new")(order_new)
app.add_typer(cell_app, name="cell")
app.add_typer(factory_app, name="factory")
for _function, _name in (
    (submit, "submit"),
    (receive, "receive"),
    (status, "status"),
    (return_job, "return"),
    (verify, "verify"),
    (nest, "nest"),
    (telemetry, "telemetry"),
    (worker, "worker"),
    (workshop, "workshop"),
    (remake, "remake"),
    (cancel, "cancel"),
    (revise, "revise"),
    (hand_over, "hand-over"),
    (serve, "serve"),
    (cases, "cases"),
    (audit, "audit"),
    (trace, "trace"),
    (backup, "backup"),
    (doctor, "doctor"),
    (restore, "restore"),
):
    app.command(_name)(_function)


def _run(order: Order, study: Path, *, site: Path, approve_as: str | None, as_json: bool, demonstration: bool = False) -> Result:
    def passphrase() -> str | None:
        return _passphrase(site, approve_as)

    how = {"site": site, "approve_as": approve_as, "demonstration": demonstration}
    return _followed(order, study, as_json=as_json, passphrase=passphrase, **how)


def _followed(
    order: Order, study: Path | None, *, as_json: bool, passphrase: Callable[[], str | None] = lambda: None, **how: Any
) -> Result:
    """Run a case in sight of a person, and report what became of it; ``passphrase`` is asked for before the work begins."""
    from batchone.pipeline.case import run_case
    from batchone.pipeline.progress import Progress

    progress = Progress()
    try:
        words = passphrase()
        with progress:
            result = run_case(order, study, passphrase=words, progress=progress.step, **how)
    except BatchoneError as error:
        if as_json:
            typer.echo(_json(progress.failure(order.case, error)))
        else:
            _print_findings(getattr(error, "findings", ()))
        raise
    _report(result, as_json=as_json)
    return result


def _passphrase(site: Path, approve_as: str | None) -> str | None:
    """The passphrase of who approves: asked for, and tried on their key, before the work begins."""
    from batchone.pipeline.job.signature import DEMONSTRATOR, approval_key, approver_passphrase

    if approve_as is None or approve_as == DEMONSTRATOR:
        return None
    passphrase = approver_passphrase(site / "keys", approve_as)
    approval_key(site / "keys", approve_as, passphrase=passphrase)
    return passphrase


def _report(result: Result, *, as_json: bool) -> None:
    from batchone.pipeline.progress import level_hint, result_tree

    if as_json:
        typer.echo(_json(result_tree(result)))
        return
    _print_findings(result.findings)
    seconds = "  ".join(f"{name} {value:.1f}" for name, value in result.stages.items())
    typer.echo(f"Seconds per stage: {seconds}  (all {sum(result.stages.values()):.1f}); peak {result.peak_mb:.0f} MB")
    if result.status == "awaiting-level":
        typer.echo(f"Case {result.case}: {result.status}. A person must say which level is meant: {level_hint(result)}")
    elif result.status == "awaiting-checks":
        typer.echo(f"Case {result.case}: interactive checks; release checks follow with: batchone design {result.case}")
    elif result.job is None:
        typer.echo(f"Case {result.case}: {result.status}. Approve with: batchone review {result.case} --approve --as NAME")
    else:
        typer.echo(f"Job folder: {result.job}")


def _print_findings(findings: Any) -> None:
    from batchone.pipeline.commands.gates import print_findings

    print_findings(findings)


def _find_case(case: str, site: Path | None) -> tuple[Path, Order]:
    from batchone.pipeline.case import case_folder
    from batchone.pipeline.case_order import read_case_order

    folder = Path(case) if (Path(case) / "order.toml").exists() else case_folder(_site(site), case)
    return folder, read_case_order(folder / "order.toml")


def _site(site: Path | None) -> Path:
    return site or Path(os.environ.get("BATCHONE_SITE", "batchone-site"))


def _parameter_lines(schema: dict[str, Any]) -> list[str]:
    lines = []
    for key, field in schema.get("properties", {}).items():
        low = field.get("minimum", field.get("exclusiveMinimum"))
        high = field.get("maximum", field.get("exclusiveMaximum"))
        limits = f"{low} to {high}" if low is not None or high is not None else ", ".join(map(str, field.get("enum", [])))
        lines.append(f"  {key:24} default {field.get('default')!s:10} {limits:14} {field.get('description', '')}")
    return lines


def _json(tree: Any) -> str:
    return json.dumps(tree, indent=1, ensure_ascii=False)


def _tell(error: BatchoneError) -> None:
    where = f" [{error.stage}]" if error.stage else ""
    case = f" case {error.case_id}:" if error.case_id else ""
    typer.echo(f"batchone{where}:{case} {error}", err=True)
    if error.hint:
        typer.echo(f"  what to do: {error.hint}", err=True)
