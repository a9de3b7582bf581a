"""An old copy of a key undoes nothing that happened since it was loaded."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.exceptions import FieldDoesNotExist
from django.db import DatabaseError, models, transaction
from django.test.utils import isolate_apps
from django.utils import timezone

from keys.models import APIKey, StaleKeyError
from keys.models.stale import TrackedModel
from tests.support.callers import opens
from tests.support.keys import stored
from tests.support.log import events
from tests.support.processes import at_once

pytestmark = pytest.mark.django_db

LATER = timezone.now() + timedelta(days=30)

# Each field that people or code can change, with three values of it.
VALUES: dict[str, tuple[Any, Any, Any]] = {
    "name": ("A", "B", "C"),
    "is_active": (True, False, True),
    "scopes": (["users:read", "employees:read"], ["users:read"], []),
    "expires_at": (None, LATER, LATER + timedelta(days=1)),
    "allowed_ips": ([], ["127.0.0.0/8"], ["127.0.0.1"]),
    "rate": ("", "1000/min", "900/min"),
}
CONTESTED = [name for name in VALUES if name != "is_active"]


@pytest.fixture
def made() -> APIKey:
    return APIKey.objects.create(**{name: values[0] for name, values in VALUES.items()})


@pytest.mark.parametrize("field", VALUES)
def test_a_copy_that_changed_something_else_keeps_the_change(made: APIKey, old: APIKey, field: str) -> None:
    setattr(made, field, VALUES[field][1])
    made.save()
    other = "rate" if field == "name" else "name"
    setattr(old, other, VALUES[other][1])
    old.save()
    assert stored(made, field) == VALUES[field][1]
    assert stored(made, other) == VALUES[other][1]


@pytest.mark.parametrize("field", VALUES)
def test_a_copy_that_changed_nothing_writes_nothing(made: APIKey, old: APIKey, field: str) -> None:
    setattr(made, field, VALUES[field][1])
    made.save()
    before = events(made)
    old.save()
    old.save(update_fields=[*VALUES])
    assert stored(made, field) == VALUES[field][1]
    assert events(made) == before


@pytest.mark.parametrize("field", CONTESTED)
def test_two_different_changes_of_one_field_are_a_conflict(made: APIKey, old: APIKey, field: str) -> None:
    setattr(made, field, VALUES[field][1])
    made.save()
    before = events(made)
    setattr(old, field, VALUES[field][2])
    with pytest.raises(StaleKeyError, match=f"^{field} of . .* has been changed"):
        old.save()
    assert stored(made, field) == VALUES[field][1]
    assert events(made) == before
    old.refresh_from_db()
    setattr(old, field, VALUES[field][2])
    old.save()
    assert stored(made, field) == VALUES[field][2]


@pytest.mark.parametrize("field", VALUES)
def test_the_same_change_twice_is_made_and_told_once(made: APIKey, old: APIKey, field: str) -> None:
    for key in (made, old):
        setattr(key, field, VALUES[field][1])
        key.save()
    assert stored(made, field) == VALUES[field][1]
    assert len(events(made)) == 2


@pytest.mark.parametrize("field", VALUES)
def test_a_copy_may_change_a_field_again_and_back(old: APIKey, field: str) -> None:
    for value in (*VALUES[field][1:], VALUES[field][0]):
        setattr(old, field, value)
        old.save()
        assert stored(old, field) == value


class TestOfSomeFields:
    @pytest.mark.parametrize("load", ["only", "defer"])
    def test_what_was_not_loaded_is_not_written(self, made: APIKey, load: str) -> None:
        fields = {"only": ("name",), "defer": ("is_active", "scopes", "key")}[load]
        old = getattr(APIKey.objects, load)(*fields).get(pk=made.pk)
        made.scopes, made.is_active = [], False
        made.save()
        old.name = "B"
        old.save()
        assert (stored(made, "name"), stored(made, "scopes"), stored(made, "is_active")) == ("B", [], False)

    def test_what_was_read_later_counts_from_then(self, made: APIKey) -> None:
        old = APIKey.objects.only("name").get(pk=made.pk)
        assert old.rate == ""
        made.rate = "1000/min"
        made.save()
        old.save()
        assert stored(made, "rate") == "1000/min"
        old.rate = "900/min"
        with pytest.raises(StaleKeyError):
            old.save()

    def test_a_refresh_of_one_field_vouches_for_that_one_alone(self, made: APIKey, old: APIKey) -> None:
        made.name, made.rate = "B", "1000/min"
        made.save()
        old.refresh_from_db(fields=["name"])
        old.name = "C"
        old.save()
        old.rate = "900/min"
        with pytest.raises(StaleKeyError):
            old.save()
        assert (stored(made, "name"), stored(made, "rate")) == ("C", "1000/min")

    @pytest.mark.parametrize(
        "read",
        [
            lambda key: key.refresh_from_db(fields=["name"]),
            lambda key: key.rate,
            lambda key: key.rotate(timedelta(days=1)),
        ],
        ids=["refresh", "deferred field", "rotation"],
    )
    def test_reading_one_field_forgets_no_change_of_another(self, made: APIKey, read: Callable[[APIKey], Any]) -> None:
        key = APIKey.objects.defer("rate").get(pk=made.pk)
        key.allowed_ips = ["10.0.0.0/8"]
        read(key)
        key.save()
        assert stored(made, "allowed_ips") == ["10.0.0.0/8"]

    @pytest.mark.parametrize("name", ["replaced_by", "replaced_by_id"])
    def test_a_relation_has_two_names(self, made: APIKey, name: str) -> None:
        made.replaced_by = APIKey.objects.create(name="successor")
        made.save(update_fields=[name])
        assert stored(made, "replaced_by") == made.replaced_by.pk

    def test_a_field_that_does_not_exist_is_not_saved_in_silence(self, made: APIKey) -> None:
        made.is_active = False
        with pytest.raises(FieldDoesNotExist):
            made.save(update_fields=["is_activ"])  # type: ignore[misc]


class TestWhatIsTheSame:
    def test_a_tuple_and_a_list(self) -> None:
        key = APIKey.objects.create(name="A", scopes=("users:read",))
        key.scopes = ("employees:read",)
        key.save()
        assert stored(key, "scopes") == ["employees:read"]

    def test_a_list_that_is_changed_in_place(self, old: APIKey) -> None:
        old.scopes.remove("users:read")
        old.save()
        assert stored(old, "scopes") == ["employees:read"]

    def test_a_time_and_its_text(self, made: APIKey) -> None:
        made.expires_at = LATER.isoformat()
        made.save()
        made.expires_at = None
        made.save()
        assert stored(made, "expires_at") is None


def test_a_copy_does_not_bring_back_a_deleted_row(made: APIKey, old: APIKey) -> None:
    token = made.key
    made.delete()
    old.name = "B"
    with pytest.raises(DatabaseError), transaction.atomic():
        old.save()
    old.deactivate()
    assert not APIKey.objects.exists()
    assert not opens(token)


@pytest.mark.matrix
@pytest.mark.django_db(transaction=True)
def test_of_changes_at_once_in_two_processes_none_is_lost() -> None:
    key = APIKey.objects.create(name="A")
    lines = f"""
from keys.models import APIKey, StaleKeyError
from keys.models.stale import TrackedModel
changes = 0
while changes < 10:
    key = APIKey.objects.get(pk={key.pk})
    key.allowed_ips.append(f"10.PROCESS.{{changes}}.0/24")
    try:
        key.save()
        changes += 1
    except StaleKeyError:
        pass
"""
    at_once(lines.replace("PROCESS", "1"), lines.replace("PROCESS", "2"))
    assert sorted(stored(key, "allowed_ips")) == [f"10.{process}.{n}.0/24" for process in (1, 2) for n in range(10)]
    assert events(key) == [("created", ""), *[("changed", "allowed_ips")] * 20]


@isolate_apps("keys")
def tracked_model() -> type[TrackedModel]:
    """Return a model with fields that a project's subclass might have, whose values can be changed in place."""

    class Tracked(TrackedModel):
        settings = models.JSONField()
        contract = models.FileField()

        class Meta:
            app_label = "keys"

        def __str__(self) -> str:
            return ""

    return Tracked


def test_what_is_changed_in_place_is_a_change() -> None:
    copy: Any = tracked_model().from_db(None, ["settings", "contract"], [{"a": [1]}, "a.txt"])
    assert not copy.changed_fields()
    copy.settings["a"].append(2)
    assert copy.changed_fields() == {"settings": {"a": [1, 2]}}
    copy.contract.name = "b.txt"
    copy.remember()
    assert not copy.changed_fields()
    copy.contract.name = "c.txt"
    copy.settings["b"] = None
    assert copy.changed_fields() == {"settings": {"a": [1, 2], "b": None}, "contract": "c.txt"}
