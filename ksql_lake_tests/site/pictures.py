"""The README's pictures: Dagster's UI and the report, of the demo.

python -m ksql_lake_tests.site.pictures [FOLDER]        FOLDER is one in which `ksql-lake demo` has run

Writes docs/pictures/ui.png and docs/pictures/report.png.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, ViewportSize, expect

from ksql_lake_tests.orchestration.browser import chromium_page
from ksql_lake_tests.site.shell import Shell
from ksql_lake_tests.site.snippets import ROOT

PICTURES = ROOT / "docs" / "pictures"
LARGEST = 300_000
"""Bytes of a picture: everybody who clones the repository gets it."""
PORT = 3917


def main() -> None:
    """Run the demo where no folder is named, look at it, and keep the pictures."""
    if len(sys.argv) > 1:
        _take(Shell(Path(sys.argv[1]).resolve(), "http://localhost:8088"))
        return
    with tempfile.TemporaryDirectory() as place:
        shell = Shell(Path(place), "http://localhost:8088")
        shell.run("ksql-lake demo", "demo")
        _take(shell)


def _take(shell: Shell) -> None:
    document = shell.folder / "demo" / "report.html"
    shell.run(f"(cd demo && ksql-lake report --offline --output {document})", "report")
    with chromium_page() as page:
        _report(page, document)
        with shell.running(f"ksql-lake demo --ui --port {PORT}", f"http://127.0.0.1:{PORT}/server_info"):
            _dagster(page)


def _dagster(page: Page) -> None:
    page.set_viewport_size(ViewportSize(width=1500, height=1000))
    page.goto(f"http://127.0.0.1:{PORT}/asset-groups")
    page.get_by_text("monitoring", exact=True).first.wait_for()
    page.keyboard.press("Alt+KeyE")
    page.get_by_text("monitoring_report").first.wait_for()
    # The open groups are kept; drawn anew they all fit in.
    page.reload()
    page.get_by_text("monitoring_report").first.wait_for()
    page.wait_for_load_state("networkidle")
    expect(page.get_by_text("Loading")).to_have_count(0)
    page.wait_for_timeout(10_000)
    page.screenshot(path=PICTURES / "ui.png")


def _report(page: Page, document: Path) -> None:
    page.set_viewport_size(ViewportSize(width=1200, height=860))
    page.goto(document.as_uri())
    page.wait_for_load_state("load")
    page.screenshot(path=PICTURES / "report.png")


if __name__ == "__main__":
    main()
