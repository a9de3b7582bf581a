"""django-simple-history keeps each change of a model with `request.user`."""

from collections.abc import Callable, Iterator
from typing import Any

from tests.worlds.settings import *  # noqa: F403
from tests.worlds.settings import INSTALLED_APPS, MIDDLEWARE

WHO = "## Who is `request.user`"
PACKAGES = ("simple_history",)

INSTALLED_APPS = [*INSTALLED_APPS, "simple_history", "tests.worlds.tracked"]
MIDDLEWARE = [*MIDDLEWARE, "simple_history.middleware.HistoryRequestMiddleware"]
ROOT_URLCONF = "tests.worlds.tracked.views"


def steps() -> Iterator[tuple[str, Callable[[], None]]]:
    from django.contrib.auth.models import User
    from django.db import models
    from simple_history import register
    from simple_history.signals import pre_create_historical_record
    from simple_history.utils import bulk_create_with_history

    from keys.authentication import ServicePrincipal
    from keys.keyrings import EnvironmentKey
    from tests.docs.pages import block, run
    from tests.worlds.tracked import steps
    from tests.worlds.tracked.models import Order

    history: Any = Order.history
    service = ServicePrincipal(EnvironmentKey("env:INTERNAL_API_KEY"))

    def in_bulk() -> None:
        bulk_create_with_history([Order(name="Ink")], Order, default_user=service)
        assert history.latest("history_id").history_user is None

    def by_hand() -> None:
        order: Any = Order(name="Pens")
        order._history_user = service
        order.save()
        assert history.latest("history_id").history_user is None

    def recipe() -> None:
        receiver = run(block("docs/people.md", WHO, "python", with_text="simple_history"))["name_the_service"]
        steps.post(steps.service(), "/create/")
        assert history.latest("history_id").history_change_reason == "key:Billing"
        pre_create_historical_record.disconnect(receiver)

    def without_relation() -> None:
        # The column is a number, and no relation.
        register(User, app="tests.worlds.tracked", history_user_id_field=models.IntegerField(null=True))
        assert User.history.model(history_user=service).history_user_id is None  # type: ignore[attr-defined]

    yield from steps.storing(lambda: history.latest("history_id").history_user, "/create/", "/create-plain/")
    yield "in bulk", in_bulk
    yield "by hand", by_hand
    yield "the manual's recipe for a history", recipe
    yield "the manual's recipe for an owner", steps.owner_by_recipe
    yield "an owner that is a service", steps.owner_by_mistake
    yield "a model that is registered late", without_relation
