"""A run of the tests: its name, its folder, and what is taken away after it.

Two runs on one machine share nothing: the name of the run is part of the name of each file, database, role and key of a
shared Redis that a test makes. Every process of a run finds it in `KEYS_TEST_RUN`. What a killed run left behind is
taken away by the next one, which knows from the name whether the process that began it is still there.
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
# Where process ids mean the same, the process id, and what tells two runs of one process id apart.
NAME = re.compile(r"keys_test_([0-9a-f]{8})_(\d+)_[0-9a-f]{8}")

DATABASES = {"postgresql": "SELECT datname FROM pg_database", "mysql": "SHOW DATABASES"}
ROLES = {"postgresql": "SELECT rolname FROM pg_roles"}


def begin() -> str:
    """Return the name of this process's run. Begins one where the process belongs to none."""
    if VARIABLE not in os.environ:
        name = f"keys_test_{_place()}_{os.getpid()}_{token_hex(4)}"
        # mypy loads the settings as well, and says nothing when it ends.
        if "PYTEST_VERSION" in os.environ:
            _take_away_old_folders()
            _make_folder(name)
        os.environ[VARIABLE] = name
    return os.environ[VARIABLE]


def own(what: str) -> str:
    """Return a name that no other process has for what a server has once for all its databases, such as a role."""
    return f"{begin()}_{os.environ.get('PYTEST_XDIST_WORKER', 'master')}_{what}"


def _make_folder(name: str) -> None:
    """Let this process and those it starts put their temporary files into a folder that is gone at its end."""
    folder = Path(tempfile.gettempdir()) / name
    folder.mkdir()
    # Servers of another user reach into theirs.
    folder.chmod(0o711)
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder)
    begun_by = os.getpid()

    def take_away() -> None:
        # A process that was forked ends as well.
        if os.getpid() == begun_by:
            shutil.rmtree(folder, ignore_errors=True)

    atexit.register(take_away)


def _take_away_old_folders() -> None:
    for folder in Path(tempfile.gettempdir()).glob("keys_test_*"):
        if is_over(folder.name):
            shutil.rmtree(folder, ignore_errors=True)


def is_over(name: str) -> bool:
    """Tell whether a name begins with that of a run whose process is gone. Nobody knows that of another machine's."""
    found = NAME.match(name)
    if found is None or found[1] != _place():
        return False
    try:
        os.kill(int(found[2]), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def _place() -> str:
    """Return what differs from one machine, start of it and container to the next, each of which counts processes."""
    said = [platform.node()]
    with suppress(OSError):
        said.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        said.append(str(Path("/proc/self/ns/pid").readlink()))
    return hashlib.sha256("\n".join(said).encode()).hexdigest()[:8]


def take_away_old_databases(connection: BaseDatabaseWrapper) -> None:
    """Drop the databases of runs that were killed, and then their roles, which may have rights in them."""
    if connection.vendor not in DATABASES:
        return
    with connection._nodb_cursor() as cursor:
        for kind, statements in (("DATABASE", DATABASES), ("ROLE", ROLES)):
            if connection.vendor not in statements:
                continue
            cursor.execute(statements[connection.vendor])
            for name in [name for (name,) in cursor.fetchall() if is_over(name)]:
                # Another run may do the same at the same time.
                with suppress(DatabaseError):
                    cursor.execute(f"DROP {kind} IF EXISTS {connection.ops.quote_name(name)}")


def take_away_cache_keys(url: str) -> None:
    """Delete what this run, and runs that were killed, have left in a Redis, if there is one."""
    with redis.Redis.from_url(url, socket_connect_timeout=1) as client, suppress(redis.ConnectionError):
        for key in client.scan_iter("keys_test_*", count=1000):
            name = key.decode(errors="replace")
            if name.startswith(os.environ[VARIABLE]) or is_over(name):
                client.delete(key)
