"""The short form of `python -m tests.cluster`: each kind of process is killed once, while requests are under way."""

import os

import pytest

from tests.cluster.cluster import Sink
from tests.cluster.report import text
from tests.cluster.requirements import require_servers
from tests.cluster.run import Plan, run


@pytest.mark.skipif(
    not os.environ.get("DATABASE_URL", "").startswith("postgres"),
    reason="The cluster is tested where the tests run on PostgreSQL.",
)
@pytest.mark.parametrize("sink", Sink)
def test_no_row_is_lost_or_doubled_and_nobody_let_in_or_turned_away_wrongly(sink: Sink) -> None:
    require_servers()
    result = run(Plan(sink, brief=True), print)
    print(text(result))
    assert result.counts.broken == []
