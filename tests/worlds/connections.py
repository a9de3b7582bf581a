"""Threads with connections of their own, as a server's; and a server that closes connections."""

import threading
from collections.abc import Callable

from django.db import close_old_connections, connection, connections
from django.test import Client


def request(token: str, status: int = 200) -> None:
    """Send a request as a server's thread does: Django's test client leaves out the beginning and the end."""
    close_old_connections()
    answer = Client(raise_request_exception=False).get("/orders/", headers={"X-API-Key": token})
    close_old_connections()
    assert answer.status_code == status, (answer.status_code, answer.content)


def in_threads(number: int, *acts: Callable[..., None]) -> None:
    """Run each act in all threads at a time, and one without an argument once, while the threads wait."""
    gate, failures = threading.Barrier(number + 1), []

    def run(thread: int) -> None:
        try:
            for act in acts:
                gate.wait(120)
                if act.__code__.co_argcount:
                    act(thread)
                gate.wait(120)
        except BaseException as error:
            failures.append(error)
            gate.abort()
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(n,)) for n in range(number)]
    for thread in threads:
        thread.start()
    for act in acts:
        try:
            gate.wait(120)
            if not act.__code__.co_argcount:
                act()
            gate.wait(120)
        except threading.BrokenBarrierError:
            break
    for thread in threads:
        thread.join()
    real = [failure for failure in failures if not isinstance(failure, threading.BrokenBarrierError)]
    if failures:
        raise (real or failures)[0]


def close_all_from_the_server() -> None:
    """End every other connection to the database."""
    ask, end = {
        "postgresql": (
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'",
            "SELECT pg_terminate_backend(%s, 5000)",
        ),
        "mysql": (
            "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()",
            "KILL %s",
        ),
    }[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(ask)
        found = [pid for (pid,) in cursor.fetchall()]
        assert found, "There was no other connection."
        for pid in found:
            cursor.execute(end, [pid])
