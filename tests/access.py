"""What people need who see little or use no mouse: axe-core's verdict on a page, and a hand that has only a keyboard."""

from __future__ import annotations

from dataclasses import dataclass

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Locator, Page

MOST_TABS = 600  # through the longest page twice; more is a trap
GRAVE = ("serious", "critical")
_HAS_FOCUS = "one => one === document.activeElement"


def faults(page: Page) -> list[str]:
    """The serious and critical faults that axe-core finds, in light and in dark: which, how grave, and where."""
    found = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        for one in Axe().run(page).response["violations"]:
            if one["impact"] in GRAVE:
                found += [f"{scheme}: {one['id']} ({one['impact']}): {node['html'][:200]}" for node in one["nodes"]]
    page.emulate_media(color_scheme="light")
    return found


@dataclass(frozen=True)
class Hand:
    """Reaches everything by the tabulator key, and presses Enter or the space bar there, as one does without a mouse."""

    page: Page

    def reach(self, target: Locator) -> None:
        """Go on from where the focus is until it is on the element."""
        for _ in range(MOST_TABS):
            if target.evaluate(_HAS_FOCUS):
                return
            self.page.keyboard.press("Tab")
        raise AssertionError(f"no tabulator leads to {target}")

    def press(self, target: Locator, key: str = "Enter") -> None:
        self.reach(target)
        self.page.keyboard.press(key)

    def tick(self, target: Locator) -> None:
        self.press(target, "Space")
        assert target.is_checked()

    def write(self, target: Locator, text: str) -> None:
        """Into a field of one line, in the place of what it holds."""
        self.reach(target)
        self.page.keyboard.press("Control+A")
        self.page.keyboard.type(text)
