"""The lives of keys, in any order: none is accepted that should not be, and no use goes without its row."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.db.models import Sum
from django.test import Client
from django.utils import timezone
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from keys.audit import retention
from keys.models import APIKey, AuditEvent, RotationError

INSIDE, OUTSIDE = "10.0.0.1", "203.0.113.9"
HOUR = timedelta(hours=1)
# Few keys, so that much happens to each of them.
MOST = 4


@dataclass(eq=False)
class Life:
    """What is to be true of one key, and a copy of its row that may be out of date."""

    copy: APIKey
    token: str
    networks: list[str]
    name: str = "A"
    is_active: bool = True
    expires_at: datetime | None = None
    successor: "Life | None" = None
    is_deleted: bool = False

    def objection(self, address: str) -> str:
        if self.is_deleted:
            return "unknown"
        if not self.is_active:
            return "inactive"
        if self.expires_at is not None and self.expires_at <= timezone.now():
            return "expired"
        return "address" if self.networks and address == OUTSIDE else ""


class Lives(RuleBasedStateMachine):
    lives: Any = Bundle("lives")

    def __init__(self) -> None:
        super().__init__()
        self.transaction = transaction.atomic()
        self.transaction.__enter__()
        self.known: list[Life] = []
        self.requests: Counter[tuple[str, str]] = Counter()

    def teardown(self) -> None:
        try:
            for life in self.known:
                self.use(life)
            self.every_request_is_in_the_log()
        finally:
            transaction.set_rollback(True)
            self.transaction.__exit__(None, None, None)

    def remember(self, key: APIKey, networks: list[str]) -> Life:
        life = Life(APIKey.objects.get(pk=key.pk), key.key, networks, key.name, expires_at=key.expires_at)
        self.known.append(life)
        return life

    @initialize(target=lives)
    def begin(self) -> Life:
        return self.remember(APIKey.objects.create(name="A"), [])

    @precondition(lambda self: len(self.known) < MOST)
    @rule(target=lives, networks=st.sampled_from([[], ["10.0.0.0/8"]]), in_bulk=st.booleans())
    def create(self, networks: list[str], in_bulk: bool) -> Life:
        key = APIKey(name="A", allowed_ips=networks)
        APIKey.objects.bulk_create([key]) if in_bulk else key.save()
        return self.remember(key, networks)

    @rule(life=lives, address=st.sampled_from([INSIDE, OUTSIDE]), digest=st.booleans())
    def use(self, life: Life, address: str = INSIDE, digest: bool = False) -> None:
        presented, reason = (life.copy.key, "unknown") if digest else (life.token, life.objection(address))
        answer = Client(REMOTE_ADDR=address).get("/guarded/", headers={"X-API-Key": presented})
        assert answer.status_code == (401 if reason else 200), reason
        self.requests["refused" if reason else "used", reason] += 1

    @rule(life=lives)
    def load_again(self, life: Life) -> None:
        if not life.is_deleted:
            life.copy = APIKey.objects.get(pk=life.copy.pk)

    @rule(life=lives, name=st.sampled_from("AB"), past_the_copy=st.booleans())
    def rename(self, life: Life, name: str, past_the_copy: bool) -> None:
        if past_the_copy:
            APIKey.objects.filter(pk=life.copy.pk).update(name=name)
            life.name = name
        else:
            life.name = name if name != life.copy.name else life.name
            life.copy.name = name
            try:
                with transaction.atomic():
                    life.copy.save()
            except DatabaseError:
                assert life.is_deleted
        assert life.is_deleted or APIKey.objects.get(pk=life.copy.pk).name == life.name
        self.use(life)

    @rule(life=lives, is_active=st.booleans(), how=st.sampled_from(["copy", "row", "update"]))
    def switch(self, life: Life, is_active: bool, how: str) -> None:
        row = APIKey.objects.filter(pk=life.copy.pk)
        if how == "copy" and not is_active:
            life.copy.deactivate()
        elif how == "update" or life.is_deleted:
            row.update(is_active=is_active)
        else:
            key = row.get()
            key.is_active = is_active
            key.save()
        life.is_active = is_active
        self.use(life)

    @rule(life=lives, left=st.sampled_from([timedelta(0), HOUR, None]))
    def set_expiry(self, life: Life, left: timedelta | None) -> None:
        if not life.is_deleted:
            row = APIKey.objects.get(pk=life.copy.pk)
            row.expires_at = life.expires_at = None if left is None else timezone.now() + left
            row.save()
        self.use(life)

    @rule(target=lives, life=lives, grace=st.sampled_from([timedelta(0), HOUR]))
    def rotate(self, life: Life, grace: timedelta) -> Any:
        if life.is_deleted:
            return multiple()
        if life.successor is None and life.objection(INSIDE):
            with pytest.raises(RotationError):
                life.copy.rotate(grace)
            return multiple()
        earliest = timezone.now() + grace
        successor = life.copy.rotate(grace)
        if life.successor is not None:
            assert (successor, APIKey.objects.get(pk=life.copy.pk).replaced_by) == (life.successor.copy,) * 2
            assert successor.key not in {other.token for other in self.known}
            return multiple()
        assert life.copy.expires_at is not None
        assert min(earliest, life.expires_at or earliest) <= life.copy.expires_at
        assert life.copy.expires_at <= (life.expires_at or timezone.now() + grace)
        life.expires_at = life.copy.expires_at
        self.use(life)
        life.successor = self.remember(successor, life.networks)
        self.use(life.successor)
        return life.successor

    @precondition(lambda self: len(self.known) >= MOST)
    @rule(life=lives, at_once=st.booleans())
    def delete(self, life: Life, at_once: bool) -> None:
        found = APIKey.objects.filter(pk=life.copy.pk)
        if at_once:
            found.delete()
        for row in found:
            row.delete()
        life.is_deleted = True
        for other in self.known:
            other.successor = None if other.successor is life else other.successor
        self.use(life)

    @rule()
    def prune(self) -> None:
        retention.prune(timezone.now() + HOUR)
        self.requests.clear()

    @invariant()
    def every_request_is_in_the_log(self) -> None:
        traffic = AuditEvent.objects.order_by().filter(event__in=["used", "refused"])
        rows = traffic.values_list("event", "reason").annotate(Sum("count"))
        assert {(event, reason): count for event, reason, count in rows} == {**self.requests}
        assert not AuditEvent.objects.died().exists()

    @invariant()
    def no_token_is_in_any_table(self) -> None:
        cells = []
        with connection.cursor() as cursor:
            for table in ("keys_apikey", "keys_auditevent"):
                cursor.execute(f"SELECT * FROM {table}")
                cells += [str(cell) for row in cursor.fetchall() for cell in row]
        text = "\n".join(cells)
        assert not [life for life in self.known if life.token in text]


@pytest.mark.matrix
@pytest.mark.django_db
def test_any_order_of_events_keeps_every_promise() -> None:
    run_state_machine_as_test(Lives, settings=settings(max_examples=12, stateful_step_count=30, deadline=None))
