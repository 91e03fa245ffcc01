#!/usr/bin/env python3
"""Build the site: the lessons, the reference and the pages, readable without a network, a server or a kernel.

`make site` runs this. Output: build/site. Every warning of Sphinx and every broken link is an error.
"""

import argparse
import os
import shutil
import sys
import time
from pathlib import Path

from links import Page, faults, read
from sphinx.cmd.build import main as sphinx
from stage import ROOT, Fault, Stage

UNUSED = ("*.map", "fontawesome.js*", "*.po", "*.mo")
JOBS = "auto" if sys.platform == "linux" else "1"  # elsewhere a process with torch may not be forked
HEAVIEST = 1_500_000  # bytes of a page with its figures


def everything(root: Path) -> tuple[list[str], list[str]]:
    """The paths of all pages and the names of all modules, in the order of the sidebar."""
    patterns = ("notebooks/*.ipynb", "notebooks/homework/release/*.ipynb", "docs/*.md", "datasets/**/README.md")
    pages = [path for pattern in patterns for path in sorted(root.glob(pattern))]
    pages += [root / name for name in ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]
    files = [path for path in sorted(root.glob("xattn_edu/**/*.py")) if path.name != "__main__.py"]
    modules = {".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__") for path in files}
    return [path.relative_to(root).as_posix() for path in pages], sorted(modules)


def build(options: argparse.Namespace) -> int:
    """Write the sources, run Sphinx, and remove what the theme brings and no page loads. Returns Sphinx's status."""
    pages, modules = everything(options.root)
    if options.only:
        pages, modules = ([name for name in names if name in options.only] for names in (pages, modules))
    sources = options.out.parent / f"{options.out.name}_sources"
    shutil.rmtree(options.out, ignore_errors=True)
    Stage(sources, pages, modules, options.root).write()
    os.environ["MPLBACKEND"] = "agg"
    settings = ["-c", str(Path(__file__).parent), "-D", f"html_static_path={sources / '_static'}"]
    status = sphinx(["-q", "-W", "--keep-going", "-j", JOBS, "-b", "html", *settings, str(sources), str(options.out)])
    for pattern in UNUSED:
        for path in list(options.out.rglob(pattern)):
            path.unlink()
    return status


def measured(pages: dict[Path, Page], site: Path) -> str:
    """How many pages and megabytes the site has, and its heaviest page."""
    size = sum(path.stat().st_size for path in site.rglob("*") if path.is_file())
    heaviest = max(pages.values(), key=Page.weight)
    shared = heaviest.weight() - heaviest.own()
    name = heaviest.path.relative_to(site.resolve())
    return (
        f"{len(pages)} pages, {size / 1e6:.1f} MB; the heaviest is {name} with {heaviest.own() / 1e6:.2f} MB "
        f"beside {shared / 1e6:.2f} MB of style and scripts that all pages share"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "site", help="the folder for the site")
    parser.add_argument("--root", type=Path, default=ROOT, help="the folder with README.md, notebooks and the others")
    parser.add_argument("--only", nargs="+", help="paths of pages and names of modules, for a small site")
    options = parser.parse_args()
    begin = time.monotonic()
    try:
        status = build(options)
    except Fault as fault:
        print(fault, file=sys.stderr)
        return 1
    pages = read(options.out)
    if not pages:  # Sphinx has said why
        return status or 1
    found = [*faults(pages, options.out)]
    found += [f"{page.path} has {page.own():,} bytes" for page in pages.values() if page.own() > HEAVIEST]
    print("\n".join([*found, measured(pages, options.out)]))
    print(f"{options.out / 'index.html'} was built in {time.monotonic() - begin:.0f} s")
    return status or bool(found)


if __name__ == "__main__":
    sys.exit(main())
