"""Every link, anchor and file that a page of the built site names exists, and nothing is fetched from elsewhere."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

FETCHED = ("script", "img", "iframe", "source")  # by their src


@dataclass
class Page(HTMLParser):
    """What one page names: its anchors, its links, and the files that it fetches."""

    path: Path
    anchors: set[str] = field(default_factory=set)
    links: set[str] = field(default_factory=set)
    fetched: set[str] = field(default_factory=set)

    def __post_init__(self):
        super().__init__()
        self.feed(self.path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        values = {name: value or "" for name, value in attributes}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag in FETCHED and "src" in values:
            self.fetched.add(values["src"])
        if "href" in values:
            is_file = tag == "link" and values.get("rel") in ("stylesheet", "icon", "preload")
            (self.fetched if is_file else self.links).add(values["href"])

    def own(self) -> int:
        """The bytes of the page and of its figures and pictures."""
        return self.weight(shared=False)

    def weight(self, shared: bool = True) -> int:
        """The bytes of the page and of what it fetches, with or without what is there for all pages."""
        files = {self.path} | {self.file(link) for link in self.fetched if not is_elsewhere(link)}
        files = {file for file in files if shared or "_static" not in file.parts or "pictures" in file.parts}
        return sum(file.stat().st_size for file in files if file.is_file())

    def file(self, link: str) -> Path:
        path = unquote(urlsplit(link).path)
        return (self.path.parent / path).resolve() if path else self.path.resolve()


def is_elsewhere(link: str) -> bool:
    """Whether a link has a host or a scheme, so that it is no file of the site. `data:` is such a scheme."""
    parts = urlsplit(link)
    return bool(parts.netloc or parts.scheme)


def faults(pages: dict[Path, Page], site: Path) -> Iterator[str]:
    """One line for each link of a page that leads to nothing, and for each file that it fetches from elsewhere."""
    for page in pages.values():
        name = page.path.relative_to(site.resolve())
        for link in sorted(page.fetched):
            if is_elsewhere(link) and not link.startswith("data:"):
                yield f"{name} fetches {link}"
        for link in sorted(page.links | page.fetched):
            if is_elsewhere(link):
                continue
            file, anchor = page.file(link), unquote(urlsplit(link).fragment)
            if not file.is_file():
                yield f"{name}: {link} leads to nothing"
            elif anchor and file in pages and anchor not in pages[file].anchors:
                yield f"{name}: {link} leads to no anchor of that page"


def read(site: Path) -> dict[Path, Page]:
    """Every page of a site, by its path."""
    site = site.resolve()
    return {path: Page(path) for path in sorted(site.rglob("*.html")) if "_static" not in path.parts}
