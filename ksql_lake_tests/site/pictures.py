"""The README's pictures: Dagster's UI and the report, of the demo.

python -m ksql_lake_tests.site.pictures [FOLDER]        FOLDER is one in which `ksql-lake demo` has run

Writes docs/pictures/ui.png and docs/pictures/report.png.
"""

from __future__ import annotations

import re
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
    # Where the demo ran is of no use to a reader.
    text = document.read_text(encoding="utf-8").replace(f"{shell.folder}/", "")
    document.write_text(text, encoding="utf-8")
    with chromium_page() as page:
        _report(page, document)
    # Fewer pixels than the browser lays out: at this size Dagster draws the statuses of all assets.
    with chromium_page(size=ViewportSize(width=1800, height=1780), scale=0.72) as page:
        command = f"ksql-lake demo --ui --port {PORT}"
        with shell.running(command, f"http://127.0.0.1:{PORT}/server_info"):
            _dagster(page)


def _dagster(page: Page) -> None:
    page.goto(f"http://127.0.0.1:{PORT}/asset-groups")
    page.get_by_text("Hide navigation").click()
    page.get_by_text("monitoring", exact=True).first.wait_for()
    page.keyboard.press("Alt+KeyE")
    page.get_by_text("monitoring_report").first.wait_for()
    # Dagster keeps which groups are open; when it draws them again, all fit in.
    page.reload()
    # Eight feeds with a status, the assets of ksqlDB and the report without one.
    expect(page.get_by_text(re.compile(r"^\d+ / \d+ Passed$"))).to_have_count(8)
    expect(page.get_by_text("100% filled")).to_have_count(8)
    expect(page.get_by_text(re.compile("fetching statuses|Loading"))).to_have_count(0)
    page.wait_for_load_state("networkidle")
    page.screenshot(path=PICTURES / "ui.png")


def _report(page: Page, document: Path) -> None:
    page.set_viewport_size(ViewportSize(width=1360, height=940))
    page.goto(document.as_uri())
    page.wait_for_load_state("load")
    # A feed fails where the demo's server was stopped during an export.
    expect(page.get_by_text(re.compile("^healthy 8$"))).to_be_visible()
    page.screenshot(path=PICTURES / "report.png")


if __name__ == "__main__":
    main()
