"""What was written, though the reply was lost, is written again and counts once."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db import Error, connection
from django.test import Client
from pytest_django import Settings

from keys.audit import statements
from keys.audit.floods import WHOLE_ROWS, floods
from keys.audit.outcomes import CountedRow
from keys.audit.sinks import backlog
from keys.models import AuditEvent
from tests.support.log import row
from tests.support.lossy_proxy import LossyProxy, lossy_proxy

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor == "sqlite", reason="SQLite has no server that could reply."),
]


@pytest.fixture
def proxy(settings: Settings) -> Iterator[LossyProxy]:
    settings.KEYS = {"OUTCOME_DELAY": timedelta(hours=1)}
    floods.forget()
    with lossy_proxy() as proxy:
        yield proxy


def counts() -> list[int]:
    return list(AuditEvent._base_manager.filter(event="refused").order_by("id").values_list("count", flat=True))


def knock(address: str, times: int) -> None:
    client = Client(REMOTE_ADDR=address)
    for _ in range(times):
        assert client.get("/guarded/", headers={"X-API-Key": "0" * 40}).status_code == 401


def flush_in_vain(proxy: LossyProxy, text: bytes) -> None:
    connection.ensure_connection()  # which says READ COMMITTED to MariaDB
    proxy.lose_reply_to(text)
    with pytest.raises(Error):
        backlog.flush()
    assert proxy.lost == 1
    connection.close()


def test_a_count_is_written_again(proxy: LossyProxy) -> None:
    knock("192.0.2.1", WHOLE_ROWS + 20)
    flush_in_vain(proxy, b"UPDATE")
    written = [1] * WHOLE_ROWS + [20]
    assert counts() == written
    backlog.flush()
    assert counts() == written


def test_counts_of_several_rows_are_written_again(proxy: LossyProxy) -> None:
    for address in ("192.0.2.1", "198.51.100.1"):
        knock(address, WHOLE_ROWS + 20)
    flush_in_vain(proxy, b"COMMIT")
    written = [*[1] * WHOLE_ROWS, 20] * 2
    assert counts() == written
    backlog.flush()
    assert counts() == written
    knock("192.0.2.1", 3)
    backlog.flush()
    assert sum(counts()) == sum(written) + 3


def test_a_row_that_is_written_late_is_there_once(proxy: LossyProxy) -> None:
    late = CountedRow.unwritten(row(event="refused", reason="unknown"), statements.current_place())
    late.total = 7
    backlog.retry_count(late)
    flush_in_vain(proxy, b"COMMIT")
    assert counts() == [7]
    late.total += 1
    backlog.retry_count(late)
    backlog.flush()
    assert counts() == [8]


def test_a_refusal_whose_row_is_there_is_answered_with_503_and_counted_once(proxy: LossyProxy) -> None:
    knock("192.0.2.1", WHOLE_ROWS + 1)
    # Not the statement, which PostgreSQL is asked to prepare first.
    proxy.lose_reply_to(b"198.51.100.1")
    # What cannot be a key is not looked up.
    refused = Client(REMOTE_ADDR="198.51.100.1").get("/guarded/", headers={"X-API-Key": ""})
    assert refused.status_code == 503
    assert proxy.lost == 1
    connection.close()
    knock("198.51.100.1", 2)
    assert counts() == [1] * (WHOLE_ROWS + 4)
