"""What each world is asked to do. Runs in a process of its own: `python -m tests.worlds.journey <world> <file>`.

Each part writes its name, and why it failed, into the file.
"""

import io
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext, redirect_stderr, redirect_stdout
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

Part = tuple[str, Callable[[], None]]


def main(name: str, results: Path) -> None:
    os.environ["KEYS_WORLD"] = name
    os.environ["DJANGO_SETTINGS_MODULE"] = f"tests.worlds.setups.{name}"
    import django
    from django.test.utils import setup_databases, setup_test_environment, teardown_databases

    django.setup()
    setup_test_environment()
    world = import_module(os.environ["DJANGO_SETTINGS_MODULE"])
    databases: Any = None

    def migrate() -> None:
        nonlocal databases
        databases = setup_databases(verbosity=0, interactive=False)
        prepare = getattr(world, "prepare", None)
        if prepare is not None:
            prepare()

    try:
        # What follows needs the tables.
        if report(results, "migrate", migrate):
            around: Callable[[], AbstractContextManager[Any]] = getattr(world, "around", nullcontext)
            with around():
                for part, act in parts(world):
                    report(results, part, act)
    finally:
        if databases is not None:
            teardown_databases(databases, verbosity=0)


def report(results: Path, part: str, act: Callable[[], None]) -> bool:
    """Run a part, and write whether it went well."""
    failure = ""
    try:
        act()
    except Exception:
        failure = traceback.format_exc()
    with results.open("a") as file:
        file.write(json.dumps([part, failure]) + "\n")
    return not failure


def parts(world: ModuleType) -> Iterator[Part]:
    from tests.worlds import commands, requests

    without: set[str] = getattr(world, "WITHOUT", set())
    common: list[Part] = [
        ("check", lambda: check(getattr(world, "EXPECTED_CHECKS", set()))),
        ("request", lambda: requests.accepted(world)),
        ("refusal", lambda: requests.refused(world)),
        ("introspection", lambda: requests.introspected(world)),
        ("admin", lambda: admin(world)),
        ("commands", lambda: commands.run_each(world)),
    ]
    yield from (part for part in common if part[0] not in without)
    yield from getattr(world, "steps", lambda: ())()


def admin(world: ModuleType) -> None:
    # It needs users, which not every world has.
    from tests.worlds import admin_pages

    admin_pages.visit(world)


def check(expected: set[str]) -> None:
    """Compare the warnings and errors of our checks with those that the world's settings give reason for."""
    from django.apps import apps
    from django.core import checks
    from django.db import connections

    messages = checks.run_checks(databases=list(connections))
    found = {str(message.id) for message in messages if str(message.id).startswith("keys.")}
    assert found == expected, [str(message) for message in messages]
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        from django.core.management import call_command

        call_command("makemigrations", "keys", check=True, dry_run=True)
    assert apps.is_installed("keys")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
