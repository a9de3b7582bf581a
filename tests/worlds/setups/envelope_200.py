"""An exception handler answers every error with 200 and an envelope."""

from collections.abc import Callable, Iterator
from typing import Any

from tests.worlds.settings import *  # noqa: F403

REST_FRAMEWORK = {"EXCEPTION_HANDLER": f"{__name__}.wrap"}
STATUSES = {401: 200, 403: 200, 429: 200}


def wrap(error: Exception, context: dict[str, Any]) -> Any:
    from rest_framework.response import Response
    from rest_framework.views import exception_handler

    answer = exception_handler(error, context)
    codes = getattr(error, "get_codes", lambda: "")()
    return answer and Response({"ok": False, "code": codes})


def steps() -> Iterator[tuple[str, Callable[[], None]]]:
    from django.test import Client

    from keys.models import APIKey
    from tests.worlds.requests import rows

    def rate() -> None:
        key = APIKey.objects.create(name="busy", scopes=["orders:read"], rate="1/day")
        before = rows()
        answers = [Client().get("/orders/", headers={"X-API-Key": key.key}) for _ in range(2)]
        assert answers[1].json() == {"ok": False, "code": "throttled"}
        assert rows()[len(before) :] == [("used", "", 200), ("refused", "rate", 200)]

    def codes() -> None:
        wrong, two = {"X-API-Key": "0" * 40}, {"X-API-Key": "0" * 40, "Authorization": "Api-Key 1"}
        said = [Client().get("/orders/", headers=headers).json()["code"] for headers in (wrong, two, {})]
        assert said == ["authentication_failed", "conflict", "not_authenticated"]

    yield "a rate that is used up", rate
    yield "codes", codes
