"""Links inside the repository lead somewhere, and the README leads to every chapter."""

import re
from pathlib import PurePosixPath

import pytest

from tests.docs.pages import CHAPTERS, PAGES, prose, sections
from tests.support.processes import ROOT


def links(page: str) -> list[str]:
    """Return where the links and images of a page point to, but for those to other sites."""
    text = re.sub(r"`[^`]*`", "", prose(page))
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if not re.match(r"[a-z]+:", target)]


def anchors(page: str) -> set[str]:
    """Return the anchors of a page's headings, as GitHub and MyST make them."""
    titles = (section.heading.lstrip("#").strip().lower() for section in sections(page))
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in titles if title}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    for link in links(page):
        target, _, anchor = link.partition("#")
        path = ((ROOT / page).parent / target).resolve() if target else ROOT / page
        assert path.is_relative_to(ROOT), link
        assert path.exists(), link
        if anchor:
            assert anchor in anchors(path.relative_to(ROOT).as_posix()), link


def test_the_readme_leads_to_every_chapter() -> None:
    assert {link.partition("#")[0] for link in links("README.md")} >= CHAPTERS


def test_the_contents_list_every_chapter() -> None:
    listed = re.findall(r"^[a-z-]+$", PAGES["docs/index.md"], flags=re.MULTILINE)
    assert sorted(listed) == sorted(PurePosixPath(chapter).stem for chapter in CHAPTERS)
