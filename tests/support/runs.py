"""A run of the tests: its name, its folder, and how it is cleaned up.

Two runs on one machine share nothing: the run's name is part of the name of each file, database, role and key in a
shared Redis that a test creates. All processes of a run read it from `KEYS_TEST_RUN`. The next run deletes what a
killed run left; it knows from the name whether the process that started the run still exists.
"""

import atexit
import hashlib
import os
import platform
import re
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

import redis
from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper

VARIABLE = "KEYS_TEST_RUN"
# The machine, the process id, and random digits, as process ids are reused.
NAME = re.compile(r"keys_test_([0-9a-f]{8})_(\d+)_[0-9a-f]{8}")

DATABASES = {"postgresql": "SELECT datname FROM pg_database", "mysql": "SHOW DATABASES"}
ROLES = {"postgresql": "SELECT rolname FROM pg_roles"}


def begin() -> str:
    """Return the name of this process's run; starts a run if the process belongs to none."""
    if VARIABLE not in os.environ:
        name = f"keys_test_{_machine_id()}_{os.getpid()}_{token_hex(4)}"
        # mypy loads the settings too, and runs no exit handlers.
        if "PYTEST_VERSION" in os.environ:
            _delete_old_files()
            _make_folder(name)
        os.environ[VARIABLE] = name
    return os.environ[VARIABLE]


def own(what: str) -> str:
    """Return a name, unique to this process, for what a server has once for all databases, such as a role."""
    return f"{begin()}_{os.environ.get('PYTEST_XDIST_WORKER', 'master')}_{what}"


def _make_folder(name: str) -> None:
    """Make this process and its children put temporary files into a folder that is deleted when it exits."""
    folder = Path(tempfile.gettempdir()) / name
    folder.mkdir()
    # Servers that run as another user read files in it.
    folder.chmod(0o711)
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    begun_by = os.getpid()

    def delete_folder() -> None:
        # A forked process calls this too.
        if os.getpid() == begun_by:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(delete_folder)


def _delete_old_files() -> None:
    for path in Path(tempfile.gettempdir()).glob("keys_test_*"):
        if is_over(path.name):
            shutil.rmtree(path, ignore_errors=True)
            # A run without pytest has a file instead of a folder.
            with suppress(OSError):
                path.unlink(missing_ok=True)


def is_over(name: str) -> bool:
    """Tell whether the name starts with that of a run whose process is gone; False for another machine's run."""
    found = NAME.match(name)
    if found is None or found[1] != _machine_id():
        return False
    try:
        os.kill(int(found[2]), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def _machine_id() -> str:
    """Return a digest that differs between machines, boots and containers, which count process ids separately."""
    said = [platform.node()]
    with suppress(OSError):
        said.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        said.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("\n".join(said).encode()).hexdigest()[:8]


def drop_old_databases(connection: BaseDatabaseWrapper) -> None:
    """Drop the databases of killed runs, and then their roles, which may have rights in them."""
    if connection.vendor not in DATABASES:
        return
    with connection._nodb_cursor() as cursor:
        for kind, statements in (("DATABASE", DATABASES), ("ROLE", ROLES)):
            if connection.vendor not in statements:
                continue
            cursor.execute(statements[connection.vendor])
            for name in [name for (name,) in cursor.fetchall() if is_over(name)]:
                # Another run may do so at the same time.
                with suppress(DatabaseError):
                    cursor.execute(f"DROP {kind} IF EXISTS {connection.ops.quote_name(name)}")


def delete_cache_keys(url: str) -> None:
    """Delete the keys of this run and of killed runs from a Redis, if there is one."""
    with redis.Redis.from_url(url, socket_connect_timeout=1) as client, suppress(redis.ConnectionError):
        for key in client.scan_iter("keys_test_*", count=1000):
            name = key.decode(errors="replace")
            if name.startswith(os.environ[VARIABLE]) or is_over(name):
                client.delete(key)
