"""The cluster's counts find each promise that is broken, and blame nobody for what a kill may cost."""

from typing import Any

import pytest

from tests.cluster.counting import Row, count
from tests.cluster.incidents import Incident
from tests.cluster.load import Kind, Request

USED, UNFINISHED = Row("used", "", 200, 1), Row("used", "", None, 1)
INACTIVE, SCOPE, RATE = (
    Row("refused", reason, status, 1) for reason, status in (("inactive", 401), ("scope", 403), ("rate", 429))
)
# Lasts from 10 to 20; a request from 5 to 6, unless said otherwise.
BACKEND_KILLED = Incident("a backend", [], hampered=Kind, loses_outcomes=True, struck=10, over=20)
ORDERLY_RESTART = Incident("a restart", [], hampered=Kind, struck=10, over=20)
REDIS_KILLED = Incident("Redis", [], hampered=[Kind.LIMITED], struck=10, over=20)
WORKER_KILLED = Incident("a worker", [], node=0, killed_workers={7}, struck=10, over=20)


def faults(
    kind: Kind, status: int | None, rows: list[Row], *incidents: Incident, worker: int = 8, **changes: Any
) -> list[str]:
    request = Request("r", kind, **{"node": 0, "started": 5, "ended": 6, "status": status, "worker": worker, **changes})
    return [fault.partition(":")[0] for fault in count([request], [("r", row) for row in rows], incidents).broken]


@pytest.mark.parametrize(
    ("kind", "status", "row"),
    [
        (Kind.GOOD, 200, USED),
        (Kind.UNSCOPED, 403, SCOPE),
        (Kind.LIMITED, 200, USED),
        (Kind.LIMITED, 429, RATE),
        (Kind.ENDED, 401, INACTIVE),
    ],
)
def test_each_answer_has_its_row(kind: Kind, status: int, row: Row) -> None:
    assert faults(kind, status, [row]) == []
    assert faults(kind, status, []) == ["no row"]
    assert faults(kind, status, [row, row]) == ["more than one row"]
    assert faults(kind, status, [UNFINISHED]) == ["no outcome"]
    assert faults(kind, status, [Row("used", "", 404, 1)]) == ["another row than that of its answer"]


@pytest.mark.parametrize("kind", [Kind.GOOD, Kind.UNSCOPED, Kind.LIMITED])
@pytest.mark.parametrize("incidents", [[], [BACKEND_KILLED]])
def test_no_good_key_is_ever_refused(kind: Kind, incidents: list[Incident]) -> None:
    assert faults(kind, 401, [INACTIVE], *incidents, started=11, ended=12) == ["a good key was refused"]


def test_no_deactivated_key_is_ever_let_in() -> None:
    assert faults(Kind.ENDED, 200, [USED], BACKEND_KILLED, started=11, ended=12) == ["a deactivated key was let in"]


def test_only_what_was_amiss_accounts_for_a_failure() -> None:
    amiss = "a failure while nothing was amiss"
    during: dict[str, Any] = {"started": 11, "ended": 12}
    for status in (500, 503):
        rows = [Row("used", "", status, 1)]
        assert faults(Kind.GOOD, status, rows) == [amiss]
        assert faults(Kind.GOOD, status, rows, BACKEND_KILLED) == [amiss]
        assert faults(Kind.GOOD, status, rows, WORKER_KILLED, **during) == [amiss]
        assert faults(Kind.GOOD, status, rows, REDIS_KILLED, **during) == [amiss]
        assert faults(Kind.LIMITED, status, rows, REDIS_KILLED, **during) == []
        assert faults(Kind.GOOD, status, rows, BACKEND_KILLED, **during) == []
    assert faults(Kind.GOOD, None, [], BACKEND_KILLED, **during) == [amiss]
    assert faults(Kind.GOOD, None, [], WORKER_KILLED, **during) == []
    assert faults(Kind.GOOD, None, [], WORKER_KILLED, node=1, **during) == [amiss]


def test_a_failure_has_one_row_at_most() -> None:
    during: dict[str, Any] = {"started": 11, "ended": 12}
    for status, incident in ((503, BACKEND_KILLED), (None, WORKER_KILLED)):
        assert faults(Kind.GOOD, status, [], incident, **during) == []
        assert faults(Kind.GOOD, status, [UNFINISHED], incident, **during) == []
        assert faults(Kind.GOOD, status, [UNFINISHED] * 2, incident, **during) == ["more than one row"]
    # Its view ran.
    assert faults(Kind.GOOD, 500, [], BACKEND_KILLED, **during) == ["no row"]


def test_an_outcome_is_missing_only_where_a_crash_took_it() -> None:
    assert faults(Kind.GOOD, 200, [UNFINISHED], WORKER_KILLED) == ["no outcome"]
    assert faults(Kind.GOOD, 200, [UNFINISHED], WORKER_KILLED, worker=7) == []
    assert faults(Kind.GOOD, 200, [UNFINISHED], WORKER_KILLED, worker=7, started=-5, ended=-4) == ["no outcome"]
    assert faults(Kind.GOOD, 200, [UNFINISHED], BACKEND_KILLED) == []
    assert faults(Kind.GOOD, 200, [UNFINISHED], BACKEND_KILLED, started=21, ended=22) == ["no outcome"]
    assert faults(Kind.GOOD, 200, [UNFINISHED], ORDERLY_RESTART) == ["no outcome"]


def test_unknown_keys_are_counted() -> None:
    def broken(counted: int, *incidents: Incident) -> list[str]:
        requests = [Request(str(n), Kind.STRANGER, 0, started=5, ended=6, status=401) for n in range(10)]
        rows = [("0", Row("refused", "unknown", 401, 1)), ("1", Row("refused", "unknown", 401, counted - 1))]
        return count(requests, rows, incidents).broken

    assert broken(10) == []
    assert broken(9) == ["unknown keys: 10 refused, 9 counted"]
    assert broken(11) == ["unknown keys: 10 refused, 11 counted"]
    assert broken(9, BACKEND_KILLED) == []


def test_a_row_belongs_to_a_request() -> None:
    assert count([], [("stray", USED)], []).broken == [f"a row of a request that nobody sent: stray {[USED]}"]
