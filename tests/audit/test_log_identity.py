"""A stream belongs to one log: those of other databases, and of copies, leave it alone and say so."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from django.core.management import call_command
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from keys.audit import log_identity
from keys.audit.log_identity import LogIdentityError
from keys.audit.servers import StreamError
from keys.audit.shipping import Shipped
from keys.audit.stream import GROUP, ForeignStreamError, Stream
from keys.models import APIKey, AuditEvent, AuditLog
from tests.support import runs
from tests.support.callers import UNAVAILABLE, UNKNOWN, get
from tests.support.commands import Run, found, manage, run
from tests.support.log import errors, ticketed
from tests.support.processes import at_once, database_url
from tests.support.redis_servers import RedisServer, ship
from tests.support.tables import execute

pytestmark = [pytest.mark.matrix, pytest.mark.django_db, pytest.mark.usefixtures("fresh")]

on_postgresql = pytest.mark.skipif(connection.vendor != "postgresql", reason="Streams are shipped into PostgreSQL.")

FOREIGN = (
    'The stream log belongs to the audit log of another database. Name another one in KEYS["AUDIT_SINK"] (?stream=...),'
    " or run `keys_ship --take-stream` if that database is no more."
)
COPY = (
    "This database is a copy, and its audit log has the id of the original. Run `keys_ship --moved` if it replaces the"
    " original, or `keys_ship --new-log` if both go on."
)


@pytest.fixture
def fresh() -> Iterator[None]:
    """Another test may have given the log another id in this process."""
    log_identity.forget()
    yield
    log_identity.forget()


@pytest.fixture
def other() -> str:
    """The id of another log."""
    return str(uuid4())


def own_id() -> str:
    (log,) = AuditLog.objects.values_list("identity", flat=True)
    return str(log)


def make_a_copy() -> None:
    """Let the log be one that was begun in another database."""
    AuditLog.objects.update(home="7/original/public")
    log_identity.forget()


class TestTheId:
    def test_is_there_when_the_tables_are(self) -> None:
        assert log_identity.current() == log_identity.read() == own_id()

    @pytest.mark.django_db(transaction=True)
    def test_another_one_comes_with_a_flush(self) -> None:
        before = log_identity.current()
        call_command("flush", "--no-input", verbosity=0)
        assert log_identity.current() == own_id() != before
        call_command("migrate", verbosity=0)
        assert log_identity.current() == own_id()

    def test_is_not_made_in_a_transaction_that_may_be_rolled_back(self, server: RedisServer, key: APIKey) -> None:
        AuditLog.objects.all().delete()
        with pytest.raises(LogIdentityError, match="The audit log has no id"):
            log_identity.current()
        assert (get("/guarded/", key).status_code, server.entries) == (503, [])

    @pytest.mark.django_db(transaction=True)
    def test_is_one_where_two_begin_at_once(self) -> None:
        AuditLog.objects.all().delete()
        lines = "from keys.audit import log_identity; print(log_identity.current())"
        assert {text.strip() for text in at_once(lines, lines)} == {own_id()}

    def test_a_dump_is_loaded_over_the_id_that_migrate_gave(self, tmp_path: Path) -> None:
        dump, dumped = tmp_path / "dump.json", own_id()
        call_command("dumpdata", "keys", output=str(dump), verbosity=0)
        log, _ = log_identity.make_new()
        assert log != dumped
        call_command("loaddata", str(dump), verbosity=0)
        assert log_identity.read() == own_id() == dumped

    def test_a_dump_of_another_database_leaves_it(self, tmp_path: Path) -> None:
        log, home = own_id(), AuditLog.objects.get().home
        make_a_copy()
        dump = tmp_path / "dump.json"
        call_command("dumpdata", "keys", output=str(dump), verbosity=0)
        AuditLog.objects.update(home=home, identity=(mine := uuid4()))
        call_command("loaddata", str(dump), verbosity=0)
        assert {str(each) for each in AuditLog.objects.values_list("identity", flat=True)} == {log, str(mine)}
        assert log_identity.read() == str(mine)

    def test_costs_nothing_without_a_stream(self, key: APIKey, settings: Settings) -> None:
        settings.KEYS = {}
        AuditLog.objects.all().delete()
        assert get("/guarded/", key).status_code == 200
        assert not AuditLog.objects.exists()

    def test_is_read_once(self, server: RedisServer, key: APIKey) -> None:
        get("/guarded/", key)
        with CaptureQueriesContext(connection) as queries:
            get("/guarded/", key)
        assert [each for each in queries if AuditLog._meta.db_table in each["sql"] or "pg_" in each["sql"]] == []

    @on_postgresql
    def test_where_the_server_does_not_tell_its_number(self) -> None:
        log = log_identity.current()
        (made_in,) = AuditLog.objects.values_list("home", flat=True)
        AuditLog.objects.update(home="?/" + made_in.partition("/")[2])
        assert log_identity.read() == log
        AuditLog.objects.update(home="?/other/public")
        with pytest.raises(LogIdentityError):
            log_identity.read()


class TestRequests:
    def test_the_first_to_write_has_the_stream(self, server: RedisServer, key: APIKey, stream: Stream) -> None:
        assert stream.owner() is None
        assert get("/guarded/", key).status_code == 200
        assert stream.owner() == own_id()

    def test_nothing_is_written_into_the_stream_of_another(
        self, server: RedisServer, stream: Stream, key: APIKey, other: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        stream.take(other)
        for token in (key.key, UNKNOWN):
            response = get("/guarded/?status=404", token)
            assert (response.status_code, response.json()) == (503, UNAVAILABLE)
        assert errors(caplog) == [f"The audit log cannot be written: ForeignStreamError: {FOREIGN}"] * 2
        with pytest.raises(ForeignStreamError):
            stream.append(ticketed(), 9)
        with pytest.raises(ForeignStreamError):
            stream.append_again([ticketed(), ticketed()])
        assert server.entries == []
        # Nobody has to restart anything when it is put right.
        server.client.delete(stream.owner_key)
        assert get("/guarded/", key).status_code == 200

    def test_an_outcome_neither(self, server: RedisServer, stream: Stream, other: str) -> None:
        stream.append(ticketed(), 9)
        stream.take(other)
        with pytest.raises(ForeignStreamError):
            stream.append_again([ticketed()])
        assert len(server.entries) == 1

    @on_postgresql
    def test_a_copy_writes_nothing(
        self, server: RedisServer, stream: Stream, key: APIKey, caplog: pytest.LogCaptureFixture
    ) -> None:
        make_a_copy()
        assert get("/guarded/", key).status_code == 503
        assert errors(caplog) == [f"The audit log cannot be written: LogIdentityError: {COPY}"]
        assert (server.entries, stream.owner()) == ([], None)

    def test_a_process_that_runs_goes_on_with_the_new_id(
        self, server: RedisServer, stream: Stream, key: APIKey
    ) -> None:
        get("/guarded/", key)
        before = own_id()
        # As another process would: this one still knows the old id.
        with transaction.atomic():
            log, _ = log_identity.make_new()
            stream.hand_over(log, {before})
        log_identity._known[connection.alias] = log_identity._Known(before, float("inf"))
        assert get("/guarded/", key).status_code == 200
        assert stream.owner() == own_id() != before

    def test_an_outcome_is_appended_though_the_log_was_given_a_new_id_meanwhile(
        self, server: RedisServer, stream: Stream, key: APIKey
    ) -> None:
        get("/guarded/", key)
        before = own_id()
        assert run("keys_ship", "--moved").status == 0
        for known in (log_identity._known, {}):
            log_identity._known = {name: log_identity._Known(before, float("inf")) for name in known}
            log_identity._last[connection.alias] = before
            stream.append_again([ticketed()])
        assert len(server.entries) == 4

    def test_a_new_connection_may_lead_to_another_database(self) -> None:
        log_identity.current()
        log_identity.suspect(connection=connection)
        assert connection.alias in log_identity._known
        log_identity._known[connection.alias] = log_identity._Known("old", float("-inf"))
        log_identity.suspect(connection=connection)
        assert log_identity.current() == own_id()


@on_postgresql
class TestShippers:
    def test_the_stream_of_another_is_left_alone(self, server: RedisServer, stream: Stream, other: str) -> None:
        stream.append(ticketed(), 9)
        stream.take(other)
        server.client.xadd(stream.set_aside, {"row": "{"})
        for arguments in (["--once"], ["--retry"], ["--moved"], []):
            assert run("keys_ship", *arguments, "-v", "0") == Run(1, "", FOREIGN)
        assert (len(server.entries), server.client.xlen(stream.set_aside)) == (1, 1)
        assert server.client.xinfo_groups("log") == []
        ended = run("keys_ship", "--status")
        assert (ended.status, FOREIGN in ended.err) == (1, True)

    def test_a_stream_that_is_taken_while_it_is_shipped(self, server: RedisServer, stream: Stream, other: str) -> None:
        from keys.audit.shipping import Shipper

        shipper = Shipper(stream)
        stream.append(ticketed(), 9)
        assert shipper.ship_batch() == 1
        stream.append(ticketed(), 9)
        stream.take(other)
        with pytest.raises(ForeignStreamError):
            shipper.run()
        assert server.client.xpending("log", GROUP)["pending"] == 0

    def test_a_copy_takes_nothing(self, server: RedisServer, stream: Stream) -> None:
        stream.append(ticketed(), 9)
        make_a_copy()
        assert run("keys_ship", "--once") == Run(1, "", COPY)
        ended = run("keys_ship", "--status")
        assert (ended.status, COPY in ended.err) == (1, True)
        assert server.client.xinfo_groups("log") == []

    def test_one_that_replaces_the_original_goes_on(self, server: RedisServer, stream: Stream, key: APIKey) -> None:
        get("/guarded/", key)
        original = own_id()
        make_a_copy()
        ended = run("keys_ship", "--moved")
        assert (ended.status, ended.err.splitlines()[0]) == (0, "The audit log has a new id.")
        assert ship(stream).shipped == Shipped(written=2)
        assert get("/guarded/", key).status_code == 200
        # Where the original still runs, it is the one that is refused.
        assert stream.owner() == own_id() != original
        # Said twice, it is still so.
        assert run("keys_ship", "--moved").status == 0
        assert ship(stream).shipped == Shipped(written=2)

    def test_one_beside_the_original_has_a_stream_of_its_own(
        self, server: RedisServer, stream: Stream, key: APIKey, settings: Settings
    ) -> None:
        get("/guarded/", key)
        make_a_copy()
        assert run("keys_ship", "--new-log") == Run(0, "", "The audit log has a new id.\n")
        assert run("keys_ship", "--once") == Run(1, "", FOREIGN)
        settings.KEYS = {"AUDIT_SINK": server.address.replace("=log", "=staging")}
        assert get("/guarded/", key).status_code == 200
        assert run("keys_ship", "--once").err == "Shipped 2 entries.\n"
        assert len(server.entries) == 2

    def test_a_stream_whose_database_is_no_more(
        self, server: RedisServer, stream: Stream, key: APIKey, other: str
    ) -> None:
        stream.append(ticketed(), 9)
        stream.take(other)
        ended = run("keys_ship", "--take-stream")
        assert ended == Run(0, "", "The stream log belongs to this log, and what waits there: 1 entries.\n")
        assert ship(stream).shipped == Shipped(written=1)

    def test_without_redis_nothing_is_said_to_have_happened(self, settings: Settings) -> None:
        before = own_id()
        settings.KEYS = {"AUDIT_SINK": "redis://127.0.0.1:1/0"}
        for arguments in (["--moved"], ["--new-log", "--take-stream"]):
            ended = run("keys_ship", *arguments)
            assert ended == Run(1, "", "Redis cannot be written: ConnectionError.")
            assert own_id() == before

    def test_what_came_into_a_new_database_as_data(self, server: RedisServer, stream: Stream, other: str) -> None:
        """`pg_restore --data-only`, or a fixture: the log has its own id, and that of the original."""
        AuditLog.objects.create(identity=other, home="7/original/public")
        stream.take(other)
        assert run("keys_ship", "--once") == Run(1, "", FOREIGN)
        assert run("keys_ship", "--moved").status == 0
        assert run("keys_ship", "--once").status == 0


@on_postgresql
@pytest.mark.django_db(transaction=True)
def test_a_real_copy_takes_nothing_and_the_original_goes_on(
    server: RedisServer, stream: Stream, key: APIKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, original = runs.own("copy"), connection.settings_dict["NAME"]
    monkeypatch.setenv("AUDIT_SINK", server.address)
    get("/guarded/", key)
    connection.close()
    with connection._nodb_cursor() as cursor:
        cursor.execute(f'CREATE DATABASE "{copy}" TEMPLATE "{original}"')
    try:
        address = database_url()
        with monkeypatch.context() as there:
            there.setitem(connection.settings_dict, "NAME", copy)
            assert database_url() != address
            assert manage("keys_ship", "--once") == Run(1, "", f"CommandError: {COPY}\n")
        assert manage("keys_ship", "--once") == Run(0, "", "Shipped 2 entries.\n")
        assert get("/guarded/", key).status_code == 200
    finally:
        with connection._nodb_cursor() as cursor:
            cursor.execute(f'DROP DATABASE IF EXISTS "{copy}" WITH (FORCE)')


@on_postgresql
@pytest.mark.django_db(transaction=True)
class TestARoleWithFewRights:
    ROLE = runs.own("reader")

    @pytest.fixture
    def as_role(self, key: APIKey, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        execute(f"CREATE ROLE {self.ROLE} LOGIN")
        execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {self.ROLE}")
        with monkeypatch.context() as patch:
            patch.setitem(connection.settings_dict, "USER", self.ROLE)
            connection.close()
            yield
        connection.close()
        execute(f"DROP OWNED BY {self.ROLE}")
        execute(f"DROP ROLE {self.ROLE}")

    def test_writes_into_the_stream(self, server: RedisServer, as_role: None, key: APIKey) -> None:
        assert get("/guarded/", key).status_code == 200
        assert len(server.entries) == 2

    def test_says_who_can_give_the_log_an_id(
        self, server: RedisServer, key: APIKey, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture
    ) -> None:
        AuditLog.objects.all().delete()
        request.getfixturevalue("as_role")
        assert get("/guarded/", key).status_code == 503
        (message,) = errors(caplog)
        assert message.endswith("The audit log has no id: run `manage.py migrate`.")


class TestChecks:
    def test_of_a_stream_that_is_another_s(
        self, server: RedisServer, stream: Stream, other: str, settings: Settings
    ) -> None:
        assert not found("keys.E028", databases=["default"])
        stream.take(other)
        (message,) = found("keys.E028", databases=["default"])
        assert FOREIGN in message
        assert not found("keys.E028")
        assert stream.owner() == other
        settings.KEYS = {}
        assert not found("keys.E028", databases=["default"])

    @on_postgresql
    def test_of_a_copy(self, server: RedisServer) -> None:
        make_a_copy()
        (message,) = found("keys.E028", databases=["default"])
        assert COPY in message

    def test_without_redis(self, settings: Settings) -> None:
        settings.KEYS = {"AUDIT_SINK": "redis://127.0.0.1:1/0"}
        assert found("keys.W024", databases=["default"])
        assert not found("keys.W024")
        with pytest.raises(StreamError):
            Stream("redis://127.0.0.1:1/0").owner()


def test_events_are_only_those_of_this_log(server: RedisServer, stream: Stream, key: APIKey, other: str) -> None:
    """Two projects with the default name of the stream: the second is refused, and nothing of it is filed here."""
    get("/guarded/", key)
    stream.take(other)
    assert get("/guarded/", key).status_code == 503
    assert not AuditEvent.objects.filter(event="used").exists()
