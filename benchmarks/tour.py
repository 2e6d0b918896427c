"""The pictures of ``docs/tour.md``: a real server, a real browser, the demonstration's implant and a second one after a change.

    python -m benchmarks.tour [--site SITE --case CASE] [--out docs/tour]

Without a site the demonstration's case is made first, which takes a minute.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page

from batchone.samples.dicom import write_demo
from benchmarks.page import page_of, serving

WIDTH_PX, QUALITY = 1200, 62  # of a picture: sharp enough to read, 80 kB at most
PARAMETER, OTHER = "under_contour_mm", "1.0"
CHECKED = """shown => {
  const state = document.getElementById("state"), now = state?.querySelector("[data-device]")?.dataset;
  return now?.follow === "no" && state.dataset.shown !== shown;
}"""


def main() -> None:
    given = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    given.add_argument("--site", type=Path)
    given.add_argument("--case", default="demo-0001")
    given.add_argument("--out", type=Path, default=Path("docs/tour"))
    options = given.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder) / "site"
        if options.site is None:
            order, study = write_demo(Path(folder) / "demo", device="cranial-implant")
            command = [sys.executable, "-m", "batchone.pipeline", "run", str(order), "--study", str(study), "--out", str(site)]
            subprocess.run(command, check=False, stdout=subprocess.DEVNULL)  # it waits for an approval
        else:
            shutil.copytree(options.site, site)
        with serving(site) as (url, _), page_of(url) as page:
            _walk(page, options.case, options.out)


def _walk(page: Page, case: str, out: Path) -> None:
    _taken(page, out / "board.webp")
    page.get_by_role("link", name=case).click()
    _drawn(page)
    _taken(page, out / "case.webp")
    page.locator("#found").scroll_into_view_if_needed()
    page.evaluate("document.getElementById('found').scrollIntoView({block: 'start'})")
    page.wait_for_function("() => [...document.querySelectorAll('img.found[src]')].some((one) => one.naturalWidth > 0)")
    _taken(page, out / "findings.webp")
    shown = page.locator("#state").get_attribute("data-shown")
    page.get_by_label(PARAMETER).fill(OTHER)
    page.get_by_role("button", name="Design again").click()
    page.wait_for_function(CHECKED, arg=shown)
    page.get_by_role("button", name="Compare").click()
    page.get_by_role("heading", name="Parameters").wait_for()
    _taken(page, out / "compare.webp")
    page.get_by_role("link", name=case).click()
    _drawn(page)
    layer = page.evaluate(
        "[...document.querySelectorAll('.viewer-choice option')].find((one) => one.value.startsWith('deviation-')).value"
    )
    page.evaluate("name => batchoneViewer.layer(name)", layer)
    page.evaluate("batchoneViewer.layout('large')")
    _taken(page, out / "change.webp")
    page.evaluate("document.getElementById('sign').scrollIntoView({block: 'center'})")
    _taken(page, out / "sign.webp")


def _drawn(page: Page) -> None:
    page.wait_for_function("() => window.batchoneViewer")
    page.evaluate("batchoneViewer.ready")


def _taken(page: Page, path: Path) -> None:
    """The window as it is, small enough for a repository."""
    page.wait_for_timeout(500)  # ms: a frame after the last change
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    size = (WIDTH_PX, round(picture.height * WIDTH_PX / picture.width))
    picture.resize(size, Image.Resampling.LANCZOS).save(path, quality=QUALITY, method=6)
    print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
