"""The map of the rooms is that of the package, and what it says of changes leads to files that are there."""

import re

from tests.docs.pages import table
from tests.support.processes import ROOT

NOT_ON_THE_MAP = {"__init__.py", "__pycache__", "py.typed"}
ROOMS = (
    "models",
    "keyrings",
    "verification",
    "gateway",
    "calling",
    "importing",
    "audit",
    "admin",
    "selfservice",
    "checks",
    "management",
)


def test_the_map_has_a_row_for_every_place() -> None:
    mapped = re.findall(r"`(\w+)`", " ".join(row[0] for row in table("README.md", "## How it is built")))
    places = {path.name.removesuffix(".py") for path in (ROOT / "keys").iterdir() if path.name not in NOT_ON_THE_MAP}
    assert sorted(mapped) == sorted(places)


def test_the_rooms_within_the_rooms_are_all_described() -> None:
    for room in ROOMS:
        described = re.findall(r"`(\w+)`", " ".join(row[0] for row in table("docs/building.md", f"### {room}")))
        modules = {path.stem for path in (ROOT / "keys" / room).glob("*.py")} - {"__init__"}
        assert sorted(described) == sorted(modules), room


def test_a_change_is_made_where_the_manual_says() -> None:
    rows = table("docs/building.md", "## Where a change is made")
    assert len(rows) >= 10
    for _, files in rows:
        for path in re.findall(r"`([\w./]+)`", files):
            assert (ROOT / "keys" / path).exists() or (ROOT / path).exists(), path
