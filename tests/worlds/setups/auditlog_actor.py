"""django-auditlog keeps each change of a model with its actor."""

from collections.abc import Callable, Iterator

from tests.worlds.settings import *  # noqa: F403
from tests.worlds.settings import INSTALLED_APPS, MIDDLEWARE

PACKAGES = ("auditlog",)

INSTALLED_APPS = [*INSTALLED_APPS, "auditlog", "tests.worlds.tracked"]
MIDDLEWARE = [*MIDDLEWARE, "auditlog.middleware.AuditlogMiddleware"]
ROOT_URLCONF = "tests.worlds.tracked.views"


def steps() -> Iterator[tuple[str, Callable[[], None]]]:
    from auditlog.context import set_actor
    from auditlog.models import LogEntry

    from keys.authentication import ServicePrincipal
    from keys.keyrings import EnvironmentKey
    from tests.worlds.tracked import steps
    from tests.worlds.tracked.models import Order

    def actor_of_last() -> object:
        return LogEntry.objects.latest("pk").actor

    def by_hand() -> None:
        with set_actor(ServicePrincipal(EnvironmentKey("env:INTERNAL_API_KEY"))):
            Order.objects.create(name="Pens")
        assert actor_of_last() is None

    yield from steps.storing(actor_of_last, "/create/", "/create-plain/")
    yield "by hand", by_hand
