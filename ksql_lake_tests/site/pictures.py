"""The README's pictures: Dagster's UI and the report, on the demo's lake.

python -m ksql_lake_tests.site.pictures        writes docs/pictures/ui.png and docs/pictures/report.png
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from playwright.sync_api import Page, ViewportSize

from ksql_lake_tests.orchestration.browser import chromium_page
from ksql_lake_tests.site.shell import Shell
from ksql_lake_tests.site.snippets import ROOT

PICTURES = ROOT / "docs" / "pictures"
LARGEST = 300_000
"""Bytes of a picture: everybody who clones the repository gets it."""
PORT = 3917


def main() -> None:
    """Run the demo in a folder of its own, look at it, and keep the pictures."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        shell = Shell(folder, "http://localhost:8088")
        shell.run("ksql-lake demo", "demo")
        with chromium_page() as page:
            with shell.running(f"ksql-lake demo --ui --port {PORT}", f"http://127.0.0.1:{PORT}/server_info"):
                _dagster(page, PICTURES / "ui.png")
            shell.run("cd demo && ksql-lake report --offline --output report.html", "report")
            _report(page, folder / "demo" / "report.html", PICTURES / "report.png")


def _dagster(page: Page, target: Path) -> None:
    page.set_viewport_size(ViewportSize(width=1360, height=820))
    page.goto(f"http://127.0.0.1:{PORT}/asset-groups")
    page.get_by_text("monitoring", exact=True).first.wait_for()
    page.keyboard.press("Alt+KeyE")
    page.get_by_text("transaction_stream").first.wait_for()
    page.wait_for_load_state("networkidle")
    page.screenshot(path=target)


def _report(page: Page, document: Path, target: Path) -> None:
    page.set_viewport_size(ViewportSize(width=1200, height=820))
    page.goto(document.as_uri())
    page.screenshot(path=target)


if __name__ == "__main__":
    main()
