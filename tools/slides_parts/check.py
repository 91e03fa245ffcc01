"""Looks at every slide of a deck in Chromium, the network off: what overflows, is missing, or asks the network."""

import shutil
from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
SIZES = ((1280, 720), (1920, 1080))
FIGURE = 240  # of 720: the least height of a figure's place
PATIENCE = 120  # seconds: a busy machine is slow

# Each slide in turn, all its fragments shown: its faults in words.
LOOK = """async least => {
    const faults = [];
    const slides = Reveal.getSlides();
    for (const [number, slide] of slides.entries()) {
        const at = Reveal.getIndices(slide);
        Reveal.slide(at.h, at.v, 99);
        await Promise.all([...slide.querySelectorAll("img")].map(image => image.decode().catch(() => null)));
        const frame = slide.querySelector(".frame"), box = frame.getBoundingClientRect();
        const scale = Reveal.getScale();
        const say = what => faults.push(`slide ${number + 1} (${slide.querySelector("h1, h2").innerText}): ${what}`);
        if (frame.scrollHeight > frame.clientHeight + 1) say(`${frame.scrollHeight - frame.clientHeight} px too high`);
        if (frame.scrollWidth > frame.clientWidth + 1) say(`${frame.scrollWidth - frame.clientWidth} px too wide`);
        for (const element of frame.querySelectorAll("*:not(.katex *):not(annotation)")) {
            const own = element.getBoundingClientRect();
            if (own.width && (own.right > box.right + 1 || own.bottom > box.bottom + 1 || own.left < box.left - 1))
                { say(`<${element.tagName.toLowerCase()}> leaves the slide`); break; }
        }
        for (const formula of frame.querySelectorAll(".katex-html")) {
            if (formula.getBoundingClientRect().right > box.right - 20 * scale) { say("a formula is too wide"); break; }
        }
        for (const image of frame.querySelectorAll("img")) {
            if (!image.naturalWidth) say(`no picture ${image.getAttribute("src")}`);
            const height = image.getBoundingClientRect().height / scale;
            if (height < least) say(`a figure has only ${Math.round(height)} px of height`);
        }
        if (slide.querySelector(".katex-error")) say("a formula is not set");
    }
    const unset = [...document.querySelectorAll(".math")].filter(formula => !formula.querySelector("math, .katex"));
    if (unset.length) faults.push(`${unset.length} formulas are not set`);
    return faults;
}"""


def browser(runner):
    return runner.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=1000 * PATIENCE)


def opened(page, path: Path, query: str = "") -> list[str]:
    """Open a deck with the network off; the list grows with each request, see `outside`."""
    page.context.set_default_timeout(1000 * PATIENCE)
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.context.set_offline(True)
    page.goto(path.resolve().as_uri() + query)
    page.wait_for_function("window.Reveal && Reveal.isReady()")
    return requests


def outside(requests: list[str]) -> list[str]:
    return [url for url in requests if not url.startswith(("file:", "data:", "blob:", "about:"))]


def deck(path: Path) -> list[str]:
    """What is wrong with a deck, in words."""
    from playwright.sync_api import sync_playwright

    faults = []
    with sync_playwright() as runner:
        chromium = browser(runner)
        for width, height in SIZES:
            page = chromium.new_page(viewport={"width": width, "height": height})
            requests = opened(page, path)
            faults += [f"{path.name} at {width} x {height}: {fault}" for fault in page.evaluate(LOOK, FIGURE)]
            faults += [f"{path.name}: asks for {url}" for url in outside(requests)]
            page.close()
        pages, slides = printed(chromium, path)
        if pages != slides:
            faults.append(f"{path.name}: {pages} pages of PDF for {slides} slides")
        chromium.close()
    return faults


def printed(chromium, path: Path) -> tuple[int, int]:
    """The pages of a deck printed to PDF, and its slides."""
    page = chromium.new_page(viewport={"width": 1280, "height": 720})
    opened(page, path, "?print-pdf")
    page.wait_for_selector(".pdf-page")
    slides = page.evaluate("document.querySelectorAll('.slides .frame').length")
    pdf = page.pdf(prefer_css_page_size=True, print_background=True)
    page.close()
    return pdf.count(b"/Type /Page\n") or pdf.count(b"/Type/Page/"), slides
