"""Runs the worlds, some at a time, and prints which part of which failed. Exit status 1 if one did."""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from tests.support import runs

ROOT = Path(__file__).resolve().parents[2]
SETUPS = Path(__file__).resolve().parent / "setups"
TIMEOUT = 300  # seconds for one world


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.worlds", description=__doc__)
    names = sorted(path.stem for path in SETUPS.glob("*.py") if path.stem != "__init__")
    parser.add_argument("worlds", nargs="*", metavar="WORLD", help=f"Which ones: {', '.join(names)}. Default: all.")
    parser.add_argument(
        "--database", default=os.environ.get("DATABASE_URL", ""), help="The server's URL; none: SQLite."
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="How many run at a time.")
    options = parser.parse_args()
    if unknown := {*options.worlds} - {*names}:
        parser.error(f"There is no world {', '.join(sorted(unknown))}.")
    # The names are for this process, which only reads the worlds' modules.
    os.environ |= {"DATABASE_URL": options.database, "KEYS_WORLD": "none"}
    with tempfile.TemporaryDirectory(prefix=f"{runs.begin()}_") as folder:
        os.environ["TMPDIR"] = tempfile.tempdir = folder
        with ThreadPoolExecutor(options.jobs) as pool:
            failures = list(pool.map(show, options.worlds or names))
    print(f"{len(failures)} worlds, {sum(failures)} failed.")
    return 1 if any(failures) else 0


def show(name: str) -> bool:
    """Run one world and print how it went; return whether it failed."""
    reason = not_applicable(name)
    if reason:
        print(f"{name}: not run, {reason}", flush=True)
        return False
    results, output = run(name)
    failed = [(part, failure) for part, failure in results if failure]
    said = [f"{name}: " + ", ".join(part if not failure else f"{part.upper()} FAILED" for part, failure in results)]
    said += [f"-- {name}, {part}\n{failure}" for part, failure in failed]
    said += [f"-- {name}, what it wrote\n{output}"] if output else []
    print("\n".join(said), flush=True)
    return bool(failed or output)


def run(name: str) -> tuple[list[tuple[str, str]], str]:
    """Return the parts with why they failed, and what a process wrote that ended badly."""
    results = Path(tempfile.gettempdir()) / f"{name}.results"
    command = [sys.executable, "-W", "default", "-m", "tests.worlds.journey", name, str(results)]
    try:
        ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT, check=False)
        output = ended.stdout + ended.stderr if ended.returncode else ""
    except subprocess.TimeoutExpired as error:
        output = f"It did not end within {error.timeout} seconds."
    lines = results.read_text().splitlines() if results.exists() else []
    return [(part, failure) for part, failure in map(json.loads, lines)], output


def not_applicable(name: str) -> str:
    """Return why the world cannot be run with this database; a package that is missing is an error instead."""
    source = world(name)
    scheme = urlsplit(os.environ["DATABASE_URL"]).scheme
    vendor = {"": "sqlite", "postgres": "postgresql", "postgresql": "postgresql", "mysql": "mysql"}.get(scheme, scheme)
    vendors = source.get("VENDORS", {vendor})
    return "" if vendor in vendors else f"it is about {', '.join(sorted(vendors))}"


def world(name: str) -> dict[str, set[str]]:
    """Return what the module of a world says about itself, without making it this process's settings."""
    module = import_module(f"tests.worlds.setups.{name}")
    missing = [package for package in getattr(module, "PACKAGES", ()) if find_spec(package) is None]
    if missing:
        sys.exit(f"{name} needs {', '.join(missing)}: python -m pip install -e '.[dev,prometheus]'")
    return {"VENDORS": module.VENDORS} if hasattr(module, "VENDORS") else {}


if __name__ == "__main__":
    sys.exit(main())
