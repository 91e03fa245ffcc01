"""The sources of the site, from the files of the repository: pages keep their places, so that links between them hold.

A link to a module of the library leads to its page of the reference, one to another text file to a page that shows the
file, and a link to a numbered section of a notebook to that section. A link to what the site does not show is left out:
its words stay. A link to nothing is a fault.
"""

import json
import os
import re
import shutil
from pathlib import Path, PurePosixPath

from markup import slug
from pictures import alive

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
KATEX = ROOT / "tools" / "vendor" / "katex"

# Code is skipped: x[0](y) is no link. What a link says may hold code.
CODE = r"```.*?```|`[^`\n]*`"
WORDS = r"(?P<words>(?:[^\[\]`]|`[^`\n]*`)*)"
OBJECT = r"(?: `(?P<object>[\w.]+)`)?"  # behind a link to a module, as in docs/equations.md
LINK = re.compile(rf"(?P<link>!?\[{WORDS}\]\((?P<target>[^)\s]+)\)){OBJECT}|{CODE}", re.S)
ELSEWHERE = {  # files and folders, and the pages about them
    "README.md": "index.md",
    "notebooks": "index.md",
    "notebooks/homework/release": "docs/homework_students.md",
    "results": "docs/results.md",
    "xattn_edu": "api/index.md",
}
SHOWN_AS_TEXT = 100_000  # bytes of a file that gets a page of its own because a page links to it

FRONT = ("", "The course", "Start")  # the README's sections on the front page; "" is what stands before the first
REFERENCE = ("The library alone",)  # and those before the reference


class Fault(Exception):
    """What is wrong with a page of the repository, in one line."""


class Stage:
    """One site: `pages` are the paths of its pages in the repository, `modules` the names of its modules."""

    def __init__(self, folder: Path, pages: list[str], modules: list[str], root: Path = ROOT):
        self.folder, self.pages, self.modules, self.root = folder, pages, modules, root
        self.files: set[str] = set()  # to be shown as text

    def write(self) -> None:
        """Write every source, and the style beside them."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(HERE / "static", self.folder / "_static")
        shutil.copytree(KATEX, self.folder / "_static" / "katex")
        for page in self.pages:
            self.put(page, self.notebook(page) if page.endswith(".ipynb") else self.markdown(self.read(page), page))
        self.reference()
        self.put("index.md", self.front())
        for file in sorted(self.files):
            self.put(f"files/{file}.md", f"# {file}\n\n````text\n{self.read(file)}\n````\n")

    def put(self, name: str, contents: str | bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents if isinstance(contents, bytes) else contents.encode())

    def notebook(self, page: str) -> str:
        """A notebook whose links lead to pages, and whose pictures answer without a kernel."""

        def put(name: str, contents: bytes) -> None:
            self.put(f"_static/pictures/{name}", contents)

        notebook = alive(json.loads(self.read(page)), put, relative("_static/pictures", page))
        for cell in notebook["cells"]:
            if cell["cell_type"] == "markdown":
                cell["source"] = self.markdown("".join(cell["source"]), page)
        return json.dumps(notebook, ensure_ascii=False)

    def markdown(self, text: str, page: str, at: str | None = None) -> str:
        """The text of `page`, with links for a page at `at` (by default the same place)."""
        at = page if at is None else at

        def lead(match: re.Match) -> str:
            target = match["target"]
            if match["link"] is None or re.match(r"\w+:|#", target):
                return match[0]
            path, _, anchor = target.partition("#")
            path = os.path.normpath(PurePosixPath(page).parent / path).replace(os.sep, "/")
            if not (self.root / path).exists():
                raise Fault(f"{page}: the link to {target} leads to nothing")
            if match[0].startswith("!"):
                self.copy(path)
                return f"![{match['words']}]({relative(path, at)})"
            place = self.place(path)
            if place in (None, at):
                return match["words"] + (f" `{match['object']}`" if match["object"] else "")
            link = f"[{match['words']}]({relative(place, at)}{section(path, match['words'], anchor)})"
            if match["object"] is None:
                return link
            return f"{link} {documented(match['object'], place)}"

        return LINK.sub(lead, text)

    def place(self, path: str) -> str | None:
        """The source of the page that shows a file or a folder of the repository; None if no page does."""
        if path in self.pages:
            return path
        if path in ELSEWHERE:
            place = ELSEWHERE[path]
            return place if place in ("index.md", "api/index.md") or place in self.pages else None
        source = self.root / path
        if source.suffix == ".py" and path.startswith("xattn_edu/"):
            name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            return f"api/{name}.rst" if name in self.modules else None
        if source.is_file() and source.suffix not in (".md", ".ipynb", ".json") and is_text(source):
            self.files.add(path)
            return f"files/{path}.md"
        return None

    def read(self, path: str) -> str:
        return (self.root / path).read_text(encoding="utf-8")

    def copy(self, path: str) -> None:
        (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(self.root / path, self.folder / path)

    def front(self) -> str:
        """The front page: sections of the README, and the trees of pages that the sidebar shows."""
        text = self.markdown(self.readme(FRONT), "README.md", "index.md")
        homework = [page for page in self.pages if re.match(r"docs/homework_|notebooks/homework/", page)]
        homework.sort(key=lambda page: (page.endswith(".ipynb"), "students" not in page))  # students begin there
        rest = [page for page in self.pages if page not in homework]
        lessons, others = ([page for page in rest if page.endswith(end)] for end in (".ipynb", ".md"))
        files = [f"files/{file}.md" for file in sorted(self.files)]
        groups = {"Lessons": lessons, "Homework": homework, "The library": ["api/index.md"], "About the course": others}
        trees = [tree(caption, pages) for caption, pages in (groups | {"Files": files}).items() if pages]
        return "\n".join([text, *trees])

    def reference(self) -> None:
        """A page for each module, and one that lists them."""
        text = self.markdown(self.readme(REFERENCE), "README.md", "api/index.md")
        tops = tree("", [f"api/{name}.rst" for name in self.below("")], at="api")
        self.put("api/index.md", text.replace("## The library alone", "# Library") + f"\n## Modules\n\n{tops}")
        for name in self.modules:
            entries = "".join(f"   {other}\n" for other in self.below(name))
            toctree = f"\n.. toctree::\n   :maxdepth: 1\n\n{entries}" if entries else ""
            title = name.partition(".")[2] or name
            module = f".. automodule:: {name}\n   :members:\n   :ignore-module-all:\n"
            self.put(f"api/{name}.rst", f"{title}\n{'=' * len(title)}\n\n{module}{toctree}")

    def readme(self, sections: tuple[str, ...]) -> str:
        """Sections of the README, by their headings and in the order given."""
        parts = re.split(r"(?m)^(?=## )", self.read("README.md"))
        found = {(re.match(r"## (.*)", part) or [None, ""])[1]: part for part in parts}
        return "\n".join(found[name] for name in sections)

    def below(self, name: str) -> list[str]:
        """The modules whose page is listed on the page of module `name`; those of "" are on the first page."""

        def parent(module: str) -> str:
            return max((other for other in self.modules if module.startswith(f"{other}.")), key=len, default="")

        return [module for module in self.modules if parent(module) == name]


def is_text(path: Path) -> bool:
    return path.stat().st_size < SHOWN_AS_TEXT and b"\0" not in path.read_bytes()


def relative(path: str, page: str) -> str:
    return os.path.relpath(path, PurePosixPath(page).parent).replace(os.sep, "/")


def section(path: str, words: str, anchor: str) -> str:
    """The anchor of a link: its own, or that of the section of a notebook whose number is what the link says."""
    if anchor or not path.endswith(".ipynb") or not re.fullmatch(r"\d+\.\d+", words):
        return f"#{anchor}" if anchor else ""
    return f"#{slug(words)}"


def documented(name: str, place: str) -> str:
    """Code behind a link to a module, as in docs/equations.md: a link to that object, if the page is a module's."""
    module = re.fullmatch(r"api/(.*)\.rst", place)
    return f"{{py:obj}}`{name} <{module[1]}.{name}>`" if module else f"`{name}`"


def tree(caption: str, pages: list[str], at: str = "") -> str:
    """A toctree; one with a caption is only in the sidebar."""
    head = f":caption: {caption}\n:hidden:\n" if caption else ":maxdepth: 2\n"
    names = [os.path.splitext(relative(page, f"{at}/x" if at else "x"))[0] for page in pages]
    return "```{toctree}\n" + head + "\n" + "\n".join(names) + "\n```\n"
