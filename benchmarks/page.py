"""The page of a case in a real browser: how long until it shows something, until it shows all, what it weighs; and a new device.

On the head phantom S2030 (``BATCHONE_TEST_DATA``) with 80 mm cut out of its skull and the implant for it, or on a case of a site
that is there. A server of its own with its worker, and Debian's Chromium, which draws in software: a screen with a graphics card
is quicker. The times count from the browser's asking for the page; the bytes are those that went over the wire. Computing is that
of the server for one opening, and that of the page's own script: it says what a busy machine's times do not.

    python -m benchmarks.page [--site SITE --case CASE] [--rounds 3] [--change outer_mm=3.5]
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, sync_playwright

from batchone.pipeline.config import ServerSettings
from batchone.pipeline.serve.accounts import Account
from batchone.pipeline.serve.services import make_services
from benchmarks.serve import serving as of_site

FIRST_MS, FULL_MS, CHANGE_S = 2000.0, 5000.0, 4.0
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
)
SIZE = {"width": 1440, "height": 900}
NAME, PASSWORD = "engineer", "a password of the benchmark"
HEAD = "head-phantom.zip"
IDLE = 0.15  # cores that server and worker use when nothing is to be done, at most
_SHOWN = """([before, follows]) => {
  const state = document.getElementById("state"), now = state?.querySelector("[data-device]")?.dataset;
  if (!now || now.busy === "yes" || follows !== "yes" && now.follow !== follows) return false;
  return ![null, "", before].includes(state.dataset.shown);
}"""
_LOADED = """() => performance.getEntriesByType("resource").concat(performance.getEntriesByType("navigation"))
  .map((one) => [one.name, one.startTime, one.responseEnd, one.transferSize])"""


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    given.add_argument("--site", type=Path)
    given.add_argument("--case", default="demo-0001")
    given.add_argument("--rounds", type=int, default=3)
    given.add_argument("--change", default="under_contour_mm=0.5", help="a parameter and its other value; empty: no new device")
    options = given.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder) / "site"
        if options.site is None:
            write_head(Path(folder), site)
        else:
            shutil.copytree(options.site, site)  # the case is changed
        with serving(site) as (url, server), page_of(url) as page:
            for number in range(options.rounds):
                _opened(page, f"{url}/review/{options.case}", server, number)
            if options.change:
                name, text = options.change.split("=")
                _changed(page, name, text, server)


def write_head(folder: Path, site: Path) -> None:
    """The case of the head phantom with a hole, up to its checked implant."""
    from batchone.design.families.cranial_implant import CRANIAL_IMPLANT
    from batchone.pipeline.case_order import read_case_order
    from batchone.pipeline.intake.make import intake
    from batchone.samples.craniectomy import craniectomy, point_on_skull
    from batchone.samples.dicom import write_demo, write_series

    order, _ = write_demo(folder / "order", device="cranial-implant")
    head = Path(os.environ["BATCHONE_TEST_DATA"]) / HEAD
    scan, _ = intake(head, read_case_order(order), CRANIAL_IMPLANT.limits.protocol)
    centre = point_on_skull(scan.hu, scan.affine, azimuth_deg=100.0, elevation_deg=35.0)
    cut = craniectomy(scan.hu, scan.affine, centre_mm=centre, diameter_mm=80.0, edge_angle_deg=10.0, seed=1)
    write_series(cut.hu, scan.affine, folder / "study")
    command = [sys.executable, "-m", "batchone.pipeline", "run", str(order), "--study", str(folder / "study"), "--out", str(site)]
    subprocess.run(command, check=False, stdout=subprocess.DEVNULL)  # it waits for an approval


@contextmanager
def serving(site: Path) -> Iterator[tuple[str, int]]:
    """Address and process of a server with its worker."""
    services = make_services(site, settings=ServerSettings(), clock=time.time)
    if services.accounts.find(NAME) is None:
        services.accounts.make(Account(NAME, ("engineer", "approver"), ""), by="benchmark")
    services.accounts.set_password(NAME, PASSWORD)
    services.store.close()
    with of_site(site) as (process, port):
        yield f"http://127.0.0.1:{port}", process


@contextmanager
def page_of(url: str, *, dark: bool = False) -> Iterator[Page]:
    """A page of somebody who has signed in."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(ARGUMENTS))
        try:
            context = browser.new_context(base_url=url, viewport=SIZE, color_scheme="dark" if dark else "light")  # type: ignore[arg-type]
            page = context.new_page()
            page.set_default_timeout(300_000)
            page.goto("/")
            page.get_by_label("Name").fill(NAME)
            page.get_by_label("Password").fill(PASSWORD)
            page.get_by_role("button", name="Sign in").click()
            page.wait_for_selector("table")
            yield page
        finally:
            browser.close()


def _opened(page: Page, url: str, server: int, number: int) -> None:
    before_s = _computed_s(server)
    page.goto(url)
    page.wait_for_function("() => window.batchoneViewer")
    page.evaluate("batchoneViewer.ready")
    timings: dict[str, float] = page.evaluate("batchoneViewer.timings()")
    loaded: list[list[Any]] = page.evaluate(_LOADED)
    kinds: dict[str, int] = {}
    for name, _, _, size in loaded:
        kind = name.rpartition("/review/")[2].partition("/")[2].split("/")[0] if "/review/" in name else "scripts and styles"
        kinds[kind or "page"] = kinds.get(kind or "page", 0) + int(size)
    total = sum(kinds.values())
    print(
        f"\nopening {number + 1}: first picture {timings['first']:.0f} ms  (<= {FIRST_MS:.0f})  full {timings['full']:.0f} ms",
        end="",
    )
    print(f"  (<= {FULL_MS:.0f})  server computing {_computed_s(server) - before_s:.2f} s")
    print(f"  weight {total / 1e6:.2f} MB: " + ", ".join(f"{kind} {size / 1e3:.0f} kB" for kind, size in sorted(kinds.items())))
    for name, start, end, size in sorted(loaded, key=lambda one: float(one[2])):
        if number == 0 and size > 20_000:
            print(f"  {start:6.0f} to {end:6.0f} ms  {size / 1e3:7.0f} kB  {name.rpartition('/')[2]}")
    for name in ("opened", "scan", "first", "full"):
        if number == 0 and name in timings:
            print(f"  {timings[name]:6.0f} ms  {name}")


def _changed(page: Page, name: str, text: str, server: int) -> None:
    """Another value in the form: until the page shows the new device with its interactive checks, and until it is checked."""
    page.evaluate("batchoneViewer.ready")
    _settle(server)  # a person looks for longer
    seen = page.locator("#state")
    before, computed_s = seen.get_attribute("data-shown"), _computed_by_all_s(server)
    page.get_by_label(name).fill(text)
    began = time.perf_counter()
    page.get_by_role("button", name="Design again").click()
    told = []
    for follows in ("yes", "no"):
        page.wait_for_function(_SHOWN, arg=[before, follows])
        there_s = time.perf_counter() - began
        page.evaluate("window.batchoneViewer?.renewed()")
        told.append((there_s, time.perf_counter() - began, _computed_by_all_s(server) - computed_s))
        before = seen.get_attribute("data-shown")
    for what, (there_s, drawn_s, cpu_s) in zip(("interactive checks", "release checks"), told, strict=True):
        limit = f"  (<= {CHANGE_S:g})" if what == "interactive checks" else ""
        print(f"{name} = {text}, {what}: on the page after {there_s:.1f} s, drawn after {drawn_s:.1f} s{limit}", end="")
        print(f"; computing of server, worker and stages {cpu_s:.1f} s")


def _settle(server: int, pause_s: float = 2.0) -> None:
    """Wait until the worker has made ready for what comes next."""
    before = 0.0
    while (now := _computed_by_all_s(server)) - before > IDLE * pause_s:
        before = now
        time.sleep(pause_s)


def _computed_by_all_s(pid: int) -> float:
    """Processor seconds of a process and of all below it, those that ended too."""
    user, system, *ended = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]
    own = sum(map(int, (user, system, *ended))) / os.sysconf("SC_CLK_TCK")
    children = {int(one) for task in Path(f"/proc/{pid}/task").iterdir() for one in (task / "children").read_text().split()}
    return own + sum(_computed_by_all_s(one) for one in children)


def _computed_s(pid: int) -> float:
    """Processor seconds of a process, without its children."""
    user, system = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
