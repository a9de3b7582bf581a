"""Four projects are moved as docs/moves.md says, while their clients call without a pause and see nothing but 200."""

import re
from collections import Counter
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from secrets import token_hex, token_urlsafe
from typing import Any

import pytest
import requests

from tests.projects.moving import Move, moving

pytestmark = pytest.mark.matrix

Span = tuple[float, float]


@dataclass(frozen=True)
class Caller:
    """What is expected of a client: its statuses, and the spans within which its key became ours, and ended to be."""

    statuses: frozenset[int] = frozenset({200})
    began: Span | None = None  # with the deployment of step 1, if it is None
    ended: Span = (inf, inf)

    @property
    def is_refused(self) -> bool:
        return 200 not in self.statuses


ALWAYS: Span = (0, 0)
NEVER: Span = (inf, inf)
REFUSED = Caller(frozenset({401}))
STRANGER = Caller(frozenset({401}), began=NEVER)


def finish(move: Move, expected: dict[str, Caller]) -> list[dict[str, Any]]:
    """Let everybody end, and compare what the clients saw with the log. Returns the log's rows about requests.

    Of those that `expected` does not name, each call was answered with 200.
    """
    move.callers.wait()
    for name in move.callers.calls():
        move.callers.stop(name)
    calls = move.callers.calls()
    print({name: Counter(call.status for call in of_client) for name, of_client in calls.items()})
    move.stop()
    rows = move.rows()
    known = Counter(row["request_id"] for row in rows if row["reason"] != "unknown")
    assert {*known.values()} == {1}
    first_step = move.times[1, "./deploy"]
    fewest = most = 0
    for name, of_client in calls.items():
        caller = expected.get(name, Caller())
        others = [call for call in of_client if call.status not in caller.statuses]
        assert not others, (name, len(others), others[:5])

        (least_begun, begun), (ended, most_ended) = caller.began or first_step, caller.ended
        lost = [call for call in of_client if begun < call.started and call.ended < ended and call.id not in known]
        assert not lost, (name, len(lost), lost[:5])
        early = [call for call in of_client if call.ended < least_begun and call.id in known]
        late = [call for call in of_client if call.started > most_ended and call.id in known]
        assert not early + late, (name, len(early), len(late))

        if caller.is_refused:
            # A key that nobody knows: each attempt is counted, and the rows are few.
            ours = [call for call in of_client if call.id not in known]
            fewest += sum(call.started > first_step[1] for call in ours)
            most += sum(call.ended > first_step[0] for call in ours)
    assert fewest <= sum(row["count"] for row in rows if row["reason"] == "unknown") <= most
    assert sum(map(len, calls.values())) > 2000
    return rows


def successor_in(printed: str) -> str:
    """Return the one key that commands have printed."""
    (key,) = re.findall(r"^[0-9a-f]{40}$", printed, flags=re.MULTILINE)
    return str(key)


def second_import(move: Move) -> Span:
    (times,) = (times for (step, line), times in move.times.items() if step == 2 and "--deactivate" in line)
    return times


def log_in(move: Move, username: str) -> str:
    answer = requests.post(f"{move.url}/login/", json={"username": username, "password": username}, timeout=60)
    return str(answer.json()["token"])


USERS = """
from django.contrib.auth.models import User
from rest_framework.authtoken.models import Token
from tokens.models import Note
for name in ("anna", "ben", "cleo", "dan", "left", "eve"):
    user = User.objects.create_user(name, password=name)
    Note.objects.create(user=user, text=f"of {name}")
    if name not in ("cleo", "dan"):
        print(Token.objects.create(user=user).key)
User.objects.filter(username="left").update(is_active=False)
"""


def test_tokens_of_users(tmp_path: Path) -> None:
    with moving("tokens", "## Tokens of users, in `Authorization: Token`", tmp_path) as move:
        anna, ben, left, eve = (f"Token {token}" for token in move.shell(USERS).split())
        callers = move.callers
        callers.start("anna", Authorization=anna)
        callers.start("ben", keeps_connection=True, Authorization=ben)
        callers.start("left", Authorization=left)
        callers.start("stranger", keeps_connection=True, Authorization=f"Token {token_hex(20)}")
        callers.wait()

        move.follow(1)
        cleo = f"Token {log_in(move, 'cleo')}"
        callers.start("cleo", keeps_connection=True, Authorization=cleo)
        callers.wait()
        assert move.call(Authorization=eve, X_Request_ID="eve-asks").status_code == 200
        move.shell(
            "from rest_framework.authtoken.models import Token; Token.objects.get(user__username='eve').delete()"
        )

        move.follow(2)
        assert move.call(Authorization=eve, X_Request_ID="eve-ends").status_code == 401
        dan = f"Token {log_in(move, 'dan')}"
        callers.start("dan", Authorization=dan)
        callers.wait()

        move.follow(3)
        callers.wait()
        for name, token in {"anna": anna, "ben": ben, "cleo": cleo, "dan": dan}.items():
            assert move.call(Authorization=token, X_Request_ID=f"{name}-asks").json() == {"notes": [f"of {name}"]}

        callers.stop("ben")
        successor = successor_in(move.follow(4))
        callers.start("successor", keeps_connection=True, Authorization=f"Token {successor}")
        assert move.call(Authorization=ben, X_Request_ID="ben-ends").status_code == 401

        expected = {
            "left": REFUSED,
            "stranger": STRANGER,
            "cleo": Caller(began=second_import(move)),
            "dan": Caller(began=ALWAYS),
            "successor": Caller(began=ALWAYS),
        }
        rows = finish(move, expected)
        assert {row["owner"] for row in rows if row["key_name"] == "anna"} == {"auth.user:1"}


SERVICES = """
from django.utils import timezone
from peppered.models import *
def make(name, **fields):
    token = name * 10
    ServiceToken.objects.create(name=name, digest=digest_of(token), **fields)
make("nightly")
make("weekly")
make("monthly")
make("retired", revoked_at=timezone.now())
"""


def test_a_table_of_digests_with_a_pepper(tmp_path: Path) -> None:
    heading = "## An HMAC with a pepper, in `Authorization: Token`"
    with moving("peppered", heading, tmp_path, TOKEN_PEPPER=token_hex(32)) as move:
        move.shell(SERVICES)
        headers = {
            name: {"Authorization": f"Token {name * 10}"} for name in ("nightly", "weekly", "monthly", "retired")
        }
        callers = move.callers
        for name in ("nightly", "weekly", "retired"):
            callers.start(name, keeps_connection=name == "weekly", **headers[name])
        callers.start("stranger", Authorization=f"Token {token_hex(20)}")
        callers.wait()

        move.follow(1)
        late = token_hex(20)
        move.shell(
            f"from peppered.models import *; ServiceToken.objects.create(name='late', digest=digest_of('{late}'))"
        )
        callers.start("late", Authorization=f"Token {late}")
        callers.wait()

        move.follow(2)
        callers.start("monthly", keeps_connection=True, **headers["monthly"])
        callers.wait()

        move.follow(3)
        callers.wait()
        assert move.call(**headers["nightly"], X_Request_ID="nightly-asks").json()["for"] == "nightly"

        callers.stop("weekly")
        successor = successor_in(move.follow(4))
        callers.start("successor", keeps_connection=True, Authorization=f"Token {successor}")
        assert move.call(**headers["weekly"], X_Request_ID="weekly-ends").status_code == 401

        expected = {
            "retired": replace(REFUSED, ended=move.times[3, "./deploy"]),
            "stranger": STRANGER,
            **dict.fromkeys(("late", "monthly", "successor"), Caller(began=ALWAYS)),
        }
        finish(move, expected)


CLIENTS = """
from plain.models import Client
for name in ("shop", "till", "closed"):
    print(Client.objects.create(name=name, is_enabled=name != "closed").token)
"""


def test_a_plain_table_behind_bearer(tmp_path: Path) -> None:
    with moving("plain", "## A plain table, behind `Authorization: Bearer`", tmp_path) as move:
        shop, till, closed = (f"Bearer {token}" for token in move.shell(CLIENTS).split())
        callers = move.callers
        callers.start("shop", Authorization=shop)
        callers.start("till", keeps_connection=True, Authorization=till)
        callers.start("closed", Authorization=closed)
        callers.start("stranger", keeps_connection=True, Authorization=f"Bearer {token_hex(32)}")
        callers.wait()
        assert move.call(Authorization=closed).json()["error"]["status"] == 401

        move.follow(1)
        late = move.shell("from plain.models import Client; print(Client.objects.create(name='late').token)").strip()
        callers.start("late", keeps_connection=True, Authorization=f"Bearer {late}")
        callers.wait()
        answer = move.call(Authorization=closed, X_Request_ID="closed-asks")
        assert answer.json() == {"error": {"status": 401, "message": "Invalid API key."}}

        for step in (2, 3):
            move.follow(step)
            callers.wait()
        assert move.call(Authorization=shop, X_Request_ID="shop-asks").json()["for"] == "shop"

        callers.stop("till")
        successor = successor_in(move.follow(4))
        callers.start("successor", keeps_connection=True, Authorization=f"Bearer {successor}")
        assert move.call(Authorization=till, X_Request_ID="till-ends").status_code == 401

        expected = {
            "closed": REFUSED,
            "stranger": STRANGER,
            **dict.fromkeys(("late", "successor"), Caller(began=ALWAYS)),
        }
        finish(move, expected)


PERSONAL_KEYS = """
from hashed.models import *
def make(label, key, **fields):
    PersonalKey.objects.create(label=label, secure_value=digest_of(key), mask=key[:12], **fields)
"""


def test_digests_with_a_kept_prefix(tmp_path: Path) -> None:
    with moving("hashed", "## SHA-256 digests with a prefix, in a header of your own", tmp_path) as move:
        charts, exports, narrow, lost, late = (f"phx_{token_urlsafe(33)[:43]}" for _ in range(5))
        move.shell(f"""{PERSONAL_KEYS}
make("charts", {charts!r}, scopes=["events:read"])
make("exports", {exports!r}, scopes=["events:read", "events:write"])
make("narrow", {narrow!r}, scopes=["events:write"])
make("lost", {lost!r}, scopes=["events:read"], is_active=False)
""")
        callers = move.callers
        callers.start("charts", X_API_Token=charts)
        callers.start("exports", keeps_connection=True, X_API_Token=exports)
        callers.start("narrow", X_API_Token=narrow)
        callers.start("lost", X_API_Token=lost)
        callers.start("stranger", keeps_connection=True, X_API_Token=f"phx_{token_urlsafe(33)[:43]}")
        callers.wait()

        move.follow(1)
        move.shell(f"{PERSONAL_KEYS}\nmake('late', {late!r}, scopes=['events:read'])")
        callers.start("late", keeps_connection=True, X_API_Token=late)
        callers.wait()

        for step in (2, 3):
            move.follow(step)
            callers.wait()
        assert move.call(X_API_Key=charts, X_Request_ID="charts-asks").status_code == 200

        callers.stop("exports")
        successor = successor_in(move.follow(4))
        callers.start("successor", keeps_connection=True, X_API_Token=successor)
        assert move.call(X_API_Token=exports, X_Request_ID="exports-ends").status_code == 401

        # A refused key is answered by 403 where no authenticator of the view has a challenge, as the old one had none.
        of_both = frozenset({401, 403})
        expected = {
            "narrow": Caller(frozenset({403})),
            "lost": Caller(of_both),
            "stranger": Caller(of_both, began=NEVER),
            "late": Caller(began=second_import(move)),
            "successor": Caller(began=ALWAYS),
        }
        finish(move, expected)
