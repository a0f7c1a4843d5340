"""Take the screenshots of the report page in README and docs, from results/tables/report.html.

    python -m scripts.take_screenshots          # requires playwright and an installed Chromium

Run it after `make report` has changed the page.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from playwright.sync_api import sync_playwright

REPOSITORY = Path(__file__).resolve().parents[1]
PAGE = REPOSITORY / "results/tables/report.html"
FOLDER = REPOSITORY / "docs/images"
TEXT = 2
"""Index of the text in the viewer's list whose first flip is shown."""


def main() -> None:
    """Write report-table.png and report-viewer.png."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("there is no Chromium on this machine (Debian: apt-get install chromium)")
    FOLDER.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1100, "height": 900})
        page.goto(PAGE.as_uri())
        page.locator("#s-ablation").screenshot(path=FOLDER / "report-table.png")
        page.locator("#list button").nth(TEXT).click()
        page.locator("#text [role=button].flip").first.click()
        page.locator("#trajectories").screenshot(path=FOLDER / "report-viewer.png")
        browser.close()


if __name__ == "__main__":
    main()
