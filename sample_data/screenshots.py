"""Makes the pictures of a run's page for the README, in a real browser, and of its reader.

python sample_data/screenshots.py runs/sample        # writes page-*.png beside this file

Needs playwright (pip install playwright) and a Chromium of this machine; nothing is downloaded.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from trajweight.analysis.html import page
from trajweight.analysis.html_rows import rows_of
from trajweight.analysis.report import report_facts
from trajweight.run import load_run

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
THEMES = ("light", "dark")
WIDTHS = {1400: 1000, 360: 780}  # with the height of the window


def main() -> None:
    """Open the page of one run, light and dark, wide and narrow, and take its picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--browser", default=next(filter(None, map(shutil.which, BROWSERS)), None))
    parser.add_argument("--whole", action="store_true", help="the whole page, not one window of it")
    chosen = parser.parse_args()
    if chosen.browser is None:
        sys.exit(f"No browser found; tried {', '.join(BROWSERS)}. Give --browser PATH.")
    run = load_run(chosen.run)
    shown = rows_of(run)
    text = page(report_facts(run), shown.rows, name="runs/sample", told=shown.told)
    chosen.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page.html"
        path.write_text(text, encoding="utf-8")
        take(path, chosen.out, chosen.browser, is_whole=chosen.whole)


def take(path: Path, out: Path, browser_path: str, *, is_whole: bool) -> None:
    """Pictures of the page at ``path`` as it opens, and of a trajectory opened in it."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=browser_path, args=["--no-sandbox", "--disable-gpu"]
        )
        for theme in THEMES:
            for width, height in WIDTHS.items():
                window = browser.new_page(
                    viewport={"width": width, "height": height},
                    color_scheme=theme,
                    device_scale_factor=1,
                )
                window.goto(path.as_uri())
                name = f"{theme}-{width}.png"
                window.screenshot(path=out / f"page-{name}", full_page=is_whole)
                window.locator("#rows tbody tr").first.click()
                window.screenshot(path=out / f"reader-{name}")
                window.close()
                print(out / f"page-{name}", out / f"reader-{name}")
        browser.close()


if __name__ == "__main__":
    main()
