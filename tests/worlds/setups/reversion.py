"""django-reversion keeps each request's changes with `request.user`, by its mixin and its middleware."""

from collections.abc import Callable, Iterator

from tests.worlds.settings import *  # noqa: F403
from tests.worlds.settings import INSTALLED_APPS, MIDDLEWARE

WHO = "## Who is `request.user`"
PACKAGES = ("reversion",)
EXPECTED_CHECKS = {"keys.W004"}

INSTALLED_APPS = [*INSTALLED_APPS, "reversion", "tests.worlds.tracked"]
MIDDLEWARE = [*MIDDLEWARE, "reversion.middleware.RevisionMiddleware"]
ROOT_URLCONF = "tests.worlds.tracked.views"


def steps() -> Iterator[tuple[str, Callable[[], None]]]:
    from django.test import override_settings
    from reversion.models import Revision
    from reversion.signals import pre_revision_commit

    from tests.docs.pages import block, run
    from tests.worlds.tracked import steps

    def of_last() -> object:
        return Revision.objects.latest("pk").user

    def by_the_mixin() -> None:
        with override_settings(MIDDLEWARE=MIDDLEWARE[:-1]):
            for address in ("/create-in-revision/", "/create-in-a-handlers-revision/"):
                before = Revision.objects.count()
                steps.post(steps.service(), address)
                assert of_last() is None, address
                steps.post(steps.person(), address)
                assert str(of_last()) == "ada", address
                assert Revision.objects.count() == before + 2, address

    def recipe() -> None:
        receiver = run(block("docs/people.md", WHO, "python", with_text="reversion"))["name_the_service"]
        steps.post(steps.service(), "/create/")
        assert Revision.objects.latest("pk").comment == "key:Billing"
        pre_revision_commit.disconnect(receiver)

    yield from steps.storing(of_last, "/create/", "/create-plain/")
    yield "by the mixin and the decorator", by_the_mixin
    yield "the manual's recipe", recipe
