"""What the README and the manual call by name, in any sentence, exists by that name."""

import argparse
import re
import tomllib
from pkgutil import resolve_name

import pytest
from django.apps import apps
from django.core.management import get_commands, load_command_class

from keys import conf
from tests.docs.code import check_ids, strings
from tests.docs.pages import PAGES, prose, sections, table
from tests.support.processes import ROOT

COMMANDS = sorted(name for name, app in get_commands().items() if app == "keys")
EVERYTHING = "\n".join(PAGES.values())


def options(parser: argparse.ArgumentParser) -> set[str]:
    """Return the options of a command, and of its subcommands."""
    found: set[str] = set()
    for action in parser._actions:
        found |= {*action.option_strings}
        if isinstance(action, argparse._SubParsersAction):
            found = found.union(*map(options, action.choices.values()))
    return found


def lines(page: str) -> list[str]:
    """Return what a page writes as code in its sentences, and the lines of its blocks for a shell."""
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(page))]
    shell = (text for section in sections(page) for language, text in section.blocks if language == "sh")
    return spans + [line for text in shell for line in text.splitlines()]


@pytest.mark.parametrize("page", PAGES)
def test_every_dotted_name_exists(page: str) -> None:
    # Not the ids of checks, and not the chapters whose file ends in `keys`.
    for dotted in re.findall(r"(?<![\w-])keys(?!\.[EW]\d)(?:\.[a-zA-Z_]\w*)+", PAGES[page]):
        resolve_name(dotted)


def test_every_check_and_migration_exists() -> None:
    assert {*re.findall(r"\bkeys\.[EW]\d+", EVERYTHING)} <= {*check_ids()}
    migrations = {path.name[:4] for path in (ROOT / "keys" / "migrations").glob("0*.py")}
    assert {*re.findall(r"\bkeys\.(\d+)", EVERYTHING)} <= migrations


def test_every_command_and_table_exists() -> None:
    tables = {model._meta.db_table for model in apps.get_app_config("keys").get_models()}
    templates = (path.read_text() for path in (ROOT / "keys" / "templates").rglob("*.html"))
    blocks_of_pages = {name for text in templates for name in re.findall(r"{% block (keys_\w+) %}", text)}
    assert {*re.findall(r"\bkeys_\w+", EVERYTHING)} <= {*COMMANDS} | tables | blocks_of_pages


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_a_command_exists(command: str) -> None:
    written = " ".join(line for page in PAGES for line in lines(page) if re.search(rf"\b{command}\b", line))
    (row,) = (row for row in table("docs/reference.md", "## Commands") if row[0] == f"`{command}`")
    parser = load_command_class("keys", command).create_parser("manage.py", command)
    assert {*re.findall(r"(?<![\w-])--[a-z][a-z-]*", f"{written} {row[1]}")} <= options(parser)


def test_every_setting_exists() -> None:
    named = {*re.findall(r'KEYS\["(\w+)"\]', EVERYTHING)}
    assert named
    assert named <= {*conf.DEFAULTS}


def test_every_extra_exists() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = {*re.findall(r"extra `(\w+)`", EVERYTHING), *re.findall(r"(?:\.|service-keys)\[(\w+)\]'", EVERYTHING)}
    assert named
    assert named <= {*extras}


def test_the_names_for_telemetry_are_those_of_the_code() -> None:
    code = {
        name for name in strings(ROOT / "keys" / "audit" / "telemetry.py") if re.fullmatch(r"api_key\.[\w.]+", name)
    }
    documented = set(re.findall(r"`(api_key\.[\w.]+)`", EVERYTHING))
    assert documented == code - {"api_key.endpoint", "api_key.event"}  # what the counters are counted by
