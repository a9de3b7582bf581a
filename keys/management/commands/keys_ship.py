"""Move the audit log from its Redis stream into the database."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from django.core.management.base import CommandError, CommandParser
from django.db import Error, connections, router, transaction

from keys.audit import log_identity, statements
from keys.audit.places import has_schemas
from keys.conf import DATABASE, configured
from keys.management import arguments
from keys.management.command import KeysCommand, Line, write_table
from keys.models import APIKey, AuditLog

if TYPE_CHECKING:
    from keys.audit.lag import Lag
    from keys.audit.stream import Stream


class Command(KeysCommand):
    help = (
        "Bring the audit log from its Redis stream into PostgreSQL, until SIGTERM or Ctrl-C; any number of them may"
        " run at once. With --status, tell how far behind they are, and exit with 1 if somebody has to look at it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true", help="Stop when nothing is left to ship.")
        parser.add_argument(
            "--batch-size", type=int, default=500,
            help="How many entries to ship in one transaction, 1 to 10000 (default: %(default)s).",
        )  # fmt: skip
        parser.add_argument(
            "--claim-after", default="1m", metavar="TIME",
            help="When to take over what another took and did not finish (default: %(default)s).",
        )  # fmt: skip
        parser.add_argument("--retry", action="store_true", help="Try again what was set aside.")
        identity = parser.add_mutually_exclusive_group()
        identity.add_argument(
            "--moved", action="store_true",
            help="This database replaces the one that it is a copy of, and goes on with its stream.",
        )  # fmt: skip
        identity.add_argument(
            "--new-log", action="store_true",
            help="This database is a copy, and its log another one, with a stream of its own.",
        )  # fmt: skip
        parser.add_argument(
            "--take-stream", action="store_true",
            help="Take the stream over from another log. What waits there will be shipped into this database.",
        )  # fmt: skip
        parser.add_argument("--status", action="store_true", help="Tell what waits, and ship nothing.")
        parser.add_argument(
            "--json", action="store_true",
            help="With --status, write a JSON object: waiting, limit, pending, oldest_seconds, set_aside, role, fsync,"
            " eviction, consumers (name, pending, idle_seconds), problems (sentences).",
        )  # fmt: skip

    def handle(self, *args: Any, **options: Any) -> None:
        if not 1 <= options["batch_size"] <= 10_000:
            raise CommandError("--batch-size is a number from 1 to 10000.")
        if options["json"] and not options["status"]:
            raise CommandError("--json goes with --status.")
        options["claim_after"] = arguments.duration(options["claim_after"])
        stream = self._stream()
        from redis.exceptions import RedisError

        try:
            if options["status"]:
                self._tell(stream, options["json"])
            elif options["moved"] or options["new_log"] or options["take_stream"]:
                self._identify(stream, **options)
            else:
                self._ship(stream, **options)
        except RedisError as error:
            from keys.audit.shipping import one_line

            raise CommandError(f"Redis answered: {one_line(error)}") from error

    def _stream(self) -> "Stream":
        # Not by `conf`, which says the same of it in more words.
        address = configured()["AUDIT_SINK"]
        if address == DATABASE:
            raise CommandError('The audit log goes straight into the database: KEYS["AUDIT_SINK"] names no stream.')
        try:
            from keys.audit.servers import AddressError
            from keys.audit.stream import Stream
        except ModuleNotFoundError as error:
            raise CommandError(f"The package {error.name} is missing: install the extra redis.") from error
        try:
            # Longer than for requests: nobody waits for an answer, and a batch may take time. Not much longer: after a
            # failover the old server may be one that says nothing more.
            return Stream(address, socket_connect_timeout=5, socket_timeout=10)
        except AddressError as error:
            raise CommandError(f'KEYS["AUDIT_SINK"]: {error}') from error
        except (AttributeError, TypeError, ValueError) as error:
            raise CommandError('KEYS["AUDIT_SINK"] is not the address of a Redis stream.') from error

    def _identify(self, stream: "Stream", **options: Any) -> None:
        """Say which log this is, and whose the stream is; ship nothing."""
        from keys.audit.servers import StreamError

        try:
            # If Redis fails, nothing has happened.
            with transaction.atomic(using=router.db_for_write(AuditLog)):
                renewed = log_identity.make_new() if options["moved"] or options["new_log"] else None
                log, before = renewed or (log_identity.read(), set())
                if options["take_stream"]:
                    stream.take(log)
                elif options["moved"]:
                    stream.hand_over(log, before)
        except StreamError as error:
            raise CommandError(f"Redis cannot be written: {error}.") from error
        finally:
            log_identity.forget()
        if renewed:
            self.note("The audit log has a new id.")
        if options["moved"] or options["take_stream"]:
            self.note(f"The stream {stream.name} belongs to this log, and what waits there: {stream.length()} entries.")

    def _ship(self, stream: "Stream", **options: Any) -> None:
        from keys.audit.shipping import Shipper, retry

        if not statements.can_ship():
            raise CommandError("The audit log is shipped into PostgreSQL, and the database is another one.")
        if has_schemas(connections[router.db_for_write(APIKey)]):
            raise CommandError("A stream serves one log, and here each tenant has a log in its own schema.")
        if options["retry"]:
            self.note(f"Trying again {retry(stream)} entries that were set aside.")
        with _signals() as caught:
            shipper = Shipper(
                stream,
                batch_size=options["batch_size"],
                claim_after=options["claim_after"],
                must_stop=lambda: bool(caught),
            )
            try:
                if options["once"]:
                    shipper.run_once()
                else:
                    self.note(f"Shipping the audit log from {stream.name} until SIGTERM or Ctrl-C.")
                    shipper.run()
            except Exception:
                if shipper.shipped.written:
                    self.note(f"Shipped {shipper.shipped.written} entries.")
                raise
        self.note(f"Shipped {shipper.shipped.written} entries.")
        if problems := " ".join(shipper.shipped.problems):
            if options["once"]:
                raise CommandError(problems)
            self.note(problems)

    def _tell(self, stream: "Stream", as_json: bool) -> None:
        from keys.audit.lag import measure
        from keys.audit.servers import StreamError
        from keys.audit.stream import refusal

        lag = measure(stream)
        problems = lag.problems
        try:
            problems += filter(None, [refusal(stream)])
        except StreamError as error:
            problems.append(f"Redis does not tell whose log the stream belongs to: {error}.")
        except Error:
            pass  # without the database, the rest can be told
        if as_json:
            self.write_json({**asdict(lag), "problems": problems})
        else:
            self._write(lag)
            for sentence in problems:
                self.stderr.write(sentence)
        if problems:
            sys.exit(1)

    def _write(self, lag: "Lag") -> None:
        facts = {
            "waiting": f"{lag.waiting} of at most {lag.limit}",
            "being shipped": lag.pending,
            "oldest": f"{lag.oldest_seconds:.1f} s",
            "set aside": lag.set_aside,
            "role": lag.role or "unknown",
            "appendfsync": "no append-only file" if lag.fsync == "" else lag.fsync or "unknown",
            "maxmemory-policy": lag.eviction or "unknown",
        }
        for name, value in facts.items():
            self.stdout.write(f"{name + ':':<18}{value}")
        if lag.consumers:
            lines = [Line([each.name, each.pending, f"{each.idle_seconds:.0f} s ago"]) for each in lag.consumers]
            write_table(self.stdout, ["SHIPPER", "PENDING", "HEARD OF"], lines, self.style.MIGRATE_HEADING)


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect the signals that ask to stop, so that the current batch is finished first."""
    caught: list[int] = []
    asking = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda number, frame: caught.append(number)) for number in asking]
    try:
        yield caught
    finally:
        for number, handler in zip(asking, before, strict=True):
            signal.signal(number, handler)
