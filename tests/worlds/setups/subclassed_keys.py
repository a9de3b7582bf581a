"""Keys are a subclass of the app's model, with a table and with foreign keys of their own."""

from collections.abc import Callable, Iterator
from typing import Any

from tests.worlds.settings import *  # noqa: F403
from tests.worlds.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "tests.worlds.partners"]


def steps() -> Iterator[tuple[str, Callable[[], None]]]:
    from django.core import serializers
    from django.db import connection, transaction
    from django.db.models import F, Model

    from keys.models import APIKey, AuditEvent
    from tests.worlds.partners import models

    # The app is not installed where types are checked.
    Partner: Any = models.Partner  # noqa: N806
    PartnerKey: Any = models.PartnerKey  # noqa: N806

    def fresh() -> tuple[Any, Any]:
        partner = Partner.objects.create(name="Post")
        key = PartnerKey.objects.create(name="Post", scopes=["orders:read"], partner=partner)
        AuditEvent.objects.all().delete()
        return partner, key

    def told() -> list[tuple[str, str, Any]]:
        return list(AuditEvent.objects.order_by("id").values_list("event", "detail", "changes"))

    def one(event: str, detail: str = "") -> Any:
        ((found, said, changes),) = told()
        assert (found, said) == (event, detail), told()
        return changes

    def its_own_fields() -> None:
        partner, _ = fresh()
        key = PartnerKey.objects.create(name="B", scopes=[], partner=partner)
        assert one("created")["partner"] == [None, partner.pk]
        AuditEvent.objects.all().delete()
        key.calls = F("calls") + 1
        key.save()
        assert one("changed", "calls") == {"calls": [0, 1]}
        AuditEvent.objects.all().delete()
        PartnerKey.objects.filter(pk=key.pk).update(calls=F("calls") + 1, rate="5/min")
        assert one("changed", "rate, calls") == {"calls": [1, 2], "rate": ["", "5/min"]}
        AuditEvent.objects.all().delete()
        APIKey.objects.filter(pk=key.pk).update(scopes=["*"])
        assert one("changed", "scopes") == {"scopes": [[], ["*"]]}

    def another_partner() -> None:
        partner, key = fresh()
        other = Partner.objects.create(name="Rail")
        other.partnerkey_set.add(key)
        assert one("changed", "partner") == {"partner": [partner.pk, other.pk]}

    def deletions() -> None:
        ends: list[tuple[str, Callable[[Any, Any], Any]]] = [
            ("", lambda partner, key: key.delete()),
            ("", lambda partner, key: APIKey.objects.get(pk=key.pk).delete()),
            ("", lambda partner, key: PartnerKey.objects.filter(pk=key.pk).delete()),
            ("", lambda partner, key: APIKey.objects.filter(pk=key.pk).delete()),
            ("with partners.Partner", lambda partner, key: partner.delete()),
            ("with partners.Partner", lambda partner, key: Partner.objects.filter(pk=partner.pk).delete()),
        ]
        for number, (detail, end) in enumerate(ends):
            partner, key = fresh()
            pk = key.pk
            end(partner, key)
            assert one("deleted", detail)["scopes"] == [["orders:read"], None], number
            assert not APIKey.objects.filter(pk=pk).exists()
            assert AuditEvent.objects.get().api_key_id == pk

    def a_contact_that_leaves() -> None:
        _, key = fresh()
        contact = Partner.objects.create(name="Ada")
        PartnerKey.objects.filter(pk=key.pk).update(contact=contact)
        AuditEvent.objects.all().delete()
        pk = contact.pk
        contact.delete()
        assert one("changed", "contact") == {"contact": [pk, None]}

    def the_child_alone() -> None:
        partner, key = fresh()
        pk = key.pk
        key.delete(keep_parents=True)
        assert APIKey.objects.filter(pk=pk).exists()
        assert one("changed", "partner, calls")["partner"] == [partner.pk, None]

    def fixtures() -> None:
        partner, key = fresh()
        pk = key.pk
        rows = [APIKey.objects.get(pk=pk), PartnerKey.objects.get(pk=pk)]
        for backwards in (False, True):
            text = serializers.serialize("json", reversed(rows) if backwards else rows)
            APIKey.objects.get(pk=pk).delete()
            AuditEvent.objects.all().delete()
            if backwards and not connection.features.can_defer_constraint_checks:
                continue
            with transaction.atomic():
                for loaded in serializers.deserialize("json", text):
                    loaded.save()
            found = {(event, detail): changes for event, detail, changes in told()}
            assert found["created", "loaded"]["scopes"] == [None, ["orders:read"]]
            assert found["changed", "loaded: partner, calls"]["partner"] == [None, partner.pk]
        key = PartnerKey.objects.create(name="C", scopes=[], partner=partner)
        AuditEvent.objects.all().delete()
        # As `deserialize` leaves it: without what is in the parent's table.
        child = PartnerKey(pk=key.pk, partner=partner, calls=7)
        Model.save_base(child, raw=True, using="default")
        assert one("changed", "loaded: calls") == {"calls": [0, 7]}
        assert AuditEvent.objects.get().key_name == "C"

    yield "fields of its own", its_own_fields
    yield "a key that is given to another partner", another_partner
    yield "deletions, with another row too", deletions
    yield "a reference that is set to NULL", a_contact_that_leaves
    yield "a child without its row", the_child_alone
    yield "fixtures", fixtures
