"""A real browser on Dagster's UI, and what a person does there again and again.

Screenshots of what a person sees go to test-artifacts/.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import HttpCredentials, Locator, Page, ViewportSize, expect, sync_playwright

from ksql_lake_tests.orchestration.dev_server import PATIENCE, REPOSITORY

CHROMIUM = Path("/usr/bin/chromium")
ARTIFACTS = REPOSITORY / "test-artifacts"
SIZE = ViewportSize(width=1600, height=1000)
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def chromium_page(
    *, user: tuple[str, str] | None = None, host: str = "", size: ViewportSize = SIZE, scale: float = 1
) -> Iterator[Page]:
    """Open a page in a browser with a profile of its own.

    Args:
        user: Name and password it gives to a server that asks for them.
        host: A name that leads to this machine; its certificate is taken as it is.
        size: The window, in CSS pixels.
        scale: Pixels of a screenshot per CSS pixel.
    """
    if not CHROMIUM.exists():
        pytest.skip(f"there is no {CHROMIUM}")
    ARTIFACTS.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=[*QUIET, f"--host-resolver-rules=MAP {host} 127.0.0.1"] if host else QUIET,
        )
        credentials = HttpCredentials(username=user[0], password=user[1]) if user else None
        context = browser.new_context(
            viewport=size,
            device_scale_factor=scale,
            http_credentials=credentials,
            ignore_https_errors=bool(host),
        )
        page = context.new_page()
        page.set_default_timeout(PATIENCE * 1000)
        expect.set_options(timeout=PATIENCE * 1000)
        yield page
        browser.close()


def shoot(page: Page, name: str, *, height: int | None = None) -> None:
    """Keep what is to be seen as test-artifacts/NAME.png, on a screen of this height."""
    page.mouse.move(0, 0)
    if height is not None:
        page.set_viewport_size({**SIZE, "height": height})
    # Spinners and half-drawn graphs are no picture of anything.
    expect(page.get_by_text("fetching statuses")).to_have_count(0)
    expect(page.get_by_text("Loading…")).to_have_count(0)
    page.wait_for_load_state("networkidle")
    page.screenshot(path=ARTIFACTS / f"{name}.png")
    page.set_viewport_size(SIZE)


def materialize_dialog(page: Page, url: str, asset: str) -> Locator:
    """Open an asset's partitions and press Materialize; gives the dialog that opens."""
    page.goto(f"{url}/assets/{asset}?view=partitions")
    page.get_by_role("button", name="Materialize").first.click()
    return page.get_by_role("dialog")


def choose_days(dialog: Locator, days: str) -> None:
    """Take exactly these days in a stream's dialog: `2025-01-06`, or `[2025-01-06...2025-01-15]`."""
    dialog.get_by_role("button", name="Clear", exact=True).click()
    field = dialog.get_by_placeholder("ex: 2025-01-06")
    field.fill(days)
    field.press("Enter")
