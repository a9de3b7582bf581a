"""The README and the chapters of the manual, as the tests of their text read them."""

import re
from functools import cache
from typing import Any, NamedTuple

from tests.support.processes import ROOT

# By the path from the root: `README.md`, `docs/guarding.md`.
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}
CHAPTERS = {*PAGES} - {"README.md", "docs/index.md"}


class Block(NamedTuple):
    """A fenced block."""

    language: str
    text: str


class Section(NamedTuple):
    """What stands between a heading and the next, of whatever rank."""

    heading: str
    prose: list[str]
    blocks: list[Block]


@cache
def sections(page: str) -> list[Section]:
    """Return the sections of a page; the first holds what stands before any heading."""
    found = [Section("", [], [])]
    language: str | None = None
    lines: list[str] = []
    for line in PAGES[page].splitlines():
        if line.startswith("```"):
            if language is None:
                language = line.removeprefix("```")
            else:
                found[-1].blocks.append(Block(language, "".join(f"{line}\n" for line in lines)))
                language = None
                lines.clear()
        elif language is not None:
            lines.append(line)
        elif re.match(r"#+ ", line):
            found.append(Section(line, [], []))
        else:
            # A block that is fenced in another way would be run by nobody.
            assert not re.match(r"\s*(```|~~~)", line), f"{page}: {line}"
            found[-1].prose.append(line)
    assert language is None, f"{page}: a block has no end"
    return found


def section(page: str, heading: str) -> Section:
    """Return the section below a heading, such as `## Keys`."""
    (found,) = (section for section in sections(page) if section.heading == heading)
    return found


def blocks(page: str, heading: str) -> list[Block]:
    """Return the fenced blocks between a heading and the next."""
    return section(page, heading).blocks


def block(page: str, heading: str, language: str, *, with_text: str = "") -> str:
    """Return the text of the one block below a heading that is in this language and holds this text."""
    (found,) = (text for of, text in blocks(page, heading) if of == language and with_text in text)
    return found


def table(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the table below a heading, without its head."""
    lines = section(page, heading).prose
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line[:1] == "|"][2:]


def prose(page: str) -> str:
    """Return the text of a page without its headings and fenced blocks."""
    return "\n".join(line for section in sections(page) for line in section.prose)


def run(text: str, **given: Any) -> dict[str, Any]:
    """Run a block of Python and return the names it leaves."""
    names: dict[str, Any] = {"__name__": "manual", **given}
    exec(compile(text, "manual", "exec"), names)  # noqa: S102
    return names
