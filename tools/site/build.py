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

from sphinx.cmd.build import main as sphinx
from stage import ROOT, Fault, Stage

BUILD = ROOT / "build"


def everything() -> tuple[list[str], list[str]]:
    """The paths of all pages and the names of all modules, in the order of the sidebar."""
    patterns = ("notebooks/*.ipynb", "docs/*.md", "datasets/README.md", "datasets/*/README.md")
    pages = [path for pattern in patterns for path in sorted(ROOT.glob(pattern))]
    pages += [ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")]
    files = [path for path in sorted(ROOT.glob("xattn_edu/**/*.py")) if path.name != "__main__.py"]
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in files}
    return [path.relative_to(ROOT).as_posix() for path in pages], sorted(modules)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=BUILD / "site", help="the folder for the site")
    parser.add_argument("--only", nargs="+", help="pages (paths) and modules (dotted names), for a small site")
    options = parser.parse_args()
    begin = time.monotonic()
    pages, modules = everything()
    if options.only:
        pages, modules = ([name for name in names if name in options.only] for names in (pages, modules))
    sources = options.out.parent / f"{options.out.name}_sources"
    shutil.rmtree(options.out, ignore_errors=True)
    try:
        Stage(sources, pages, modules).write()
    except Fault as fault:
        print(fault, file=sys.stderr)
        return 1
    os.environ["MPLBACKEND"] = "agg"
    settings = ["-c", str(Path(__file__).parent), "-D", f"html_static_path={sources / '_static'}"]
    status = sphinx(["-q", "-W", "--keep-going", "-E", "-b", "html", *settings, str(sources), str(options.out)])
    print(f"{time.monotonic() - begin:.0f} s")
    return status


if __name__ == "__main__":
    sys.exit(main())
