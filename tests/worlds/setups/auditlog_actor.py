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

    def by_key_beside_a_session() -> None:
        person = steps.person()
        for address in ("/create-plain/", "/create/"):
            person.defaults.update({"HTTP_X_API_KEY": steps.service().defaults["HTTP_X_API_KEY"]})
            steps.post(person, address)
            # The authenticators of Django REST framework are asked in their order: there it is the session.
            assert str(actor_of_last()) == ("None" if "plain" in address else "ada"), address

    yield "stored for a key beside a session", by_key_beside_a_session
    yield from steps.storing(actor_of_last, "/create/", "/create-plain/")
    yield "by hand", by_hand
