"""A real browser for tests: Debian's Chromium without a screen, and what went wrong in it."""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--force-color-profile=srgb",
)  # fmt: skip
_WATCH = """window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => {
  window.violations.push(`${event.violatedDirective} ${event.blockedURI}`);
});
"""


@dataclass
class Watched:
    """A page, with the errors of its scripts and every address that it asked."""

    page: Page
    home: str
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.add_init_script(_WATCH)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda said: self.errors.append(said.text) if said.type == "error" else None)
        self.page.on("request", lambda request: self.requests.append(request.url))

    @property
    def abroad(self) -> list[str]:
        """Requests that left the server; data that a page holds itself is none."""
        return [url for url in self.requests if not url.startswith((self.home + "/", "data:"))]

    def ask(self, script: str) -> Any:
        """Evaluate JavaScript; promises are waited for."""
        return self.page.evaluate(script)

    def picture(self, selector: str) -> npt.NDArray[np.uint8]:
        """(height, width, 3) pixels of an element, as they are on the screen."""
        png = self.page.locator(selector).screenshot(animations="disabled")
        return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


@contextmanager
def chromium() -> Iterator[Browser]:
    """The browser; where it is missing, tests are skipped outside of CI."""
    program = shutil.which("chromium")
    if program is None and not os.environ.get("CI"):
        pytest.skip("needs the Debian package chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            browser.close()
