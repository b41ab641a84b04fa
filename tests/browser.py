"""A real browser for tests, where there is one; the reason to skip where there is none."""

from __future__ import annotations

import importlib.util
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

_NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next(filter(None, map(shutil.which, _NAMES)), None)
_WHY = (
    "needs playwright"
    if importlib.util.find_spec("playwright") is None
    else f"needs a browser, one of {', '.join(_NAMES)}"
    if BROWSER is None
    else ""
)


def needs_browser(test: Any) -> Any:
    """Mark a test as one that opens a browser; skipped, with the reason, where it cannot."""
    return pytest.mark.browser(pytest.mark.skipif(bool(_WHY), reason=_WHY)(test))


@contextmanager
def running_browser() -> Iterator[Any]:
    """A browser that downloads nothing and is gone at the end."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # a container has no user namespaces for the sandbox, and no graphics
        browser = playwright.chromium.launch(
            executable_path=BROWSER, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()
