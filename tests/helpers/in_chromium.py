"""Pictures in a real browser without a network: any request that leaves, and any error in the page, fails the test."""

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE = 120  # seconds
# No sandbox, because root may not have one; nothing that would ask the network by itself.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
]
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here (apt-get install chromium)")


@contextlib.contextmanager
def chromium(width: int = 1000, dark: bool = False) -> Iterator[Any]:
    """A page of a browser whose requests may go nowhere but to this machine's files and its own servers."""
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as runner:
        browser = runner.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=1000 * PATIENCE)
        page = browser.new_page(
            viewport={"width": width, "height": 900}, color_scheme="dark" if dark else "light", reduced_motion="reduce"
        )
        page.set_default_timeout(1000 * PATIENCE)
        addresses: list[str] = []
        errors: list[str] = []
        page.on("request", lambda request: addresses.append(request.url))
        page.on("websocket", lambda socket: addresses.append(socket.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page
        browser.close()
    parts = [urlsplit(address) for address in addresses]
    left = [part.geturl() for part in parts if part.scheme not in ("data", "blob", "file")]
    assert [address for address in left if urlsplit(address).hostname != "127.0.0.1"] == []
    assert errors == []


@contextlib.contextmanager
def shown(picture: Any, folder: Path, width: int = 1000, dark: bool = False) -> Iterator[Any]:
    """A picture's own page, opened from the disk. Yields the browser's page when the picture stands in it."""
    path = folder / f"{picture.name}.html"
    picture.write_page(path)
    with chromium(width, dark) as page:
        page.goto(path.as_uri())
        page.locator(".xattn-picture").wait_for()
        yield page


def computed(page: Any) -> Any:
    """What the picture says that it computed (`expose` in common.js)."""
    return json.loads(page.locator("[data-computed]").first.get_attribute("data-computed"))


def check_usable(page: Any) -> None:
    """Every control can be reached with the keyboard and has a name, a line is read out, and nothing is cut off."""
    controls = page.locator(".xattn-picture :is(button, select, input, [tabindex])")
    assert controls.count() > 0
    for control in controls.all():
        tag, name, focusable = control.evaluate(
            "e => [e.tagName, e.getAttribute('aria-label') || (e.tagName === 'BUTTON' ? e.textContent : ''),"
            " e.tabIndex >= 0]"
        )
        assert name.strip() and focusable, (tag, name)
    assert page.locator(".xattn-picture [aria-live=polite]").inner_text().strip()
    wide = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert wide[0] <= wide[1], f"{wide[0]} pixels in a window of {wide[1]}"
