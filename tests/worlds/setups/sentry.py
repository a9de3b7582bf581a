"""Sentry is set up as the manual says, and is told of views that break."""

from collections.abc import Callable, Iterator

from tests.worlds.settings import *  # noqa: F403

PACKAGES = ("sentry_sdk",)

TOKEN = "0123456789abcdef0123456789abcdef01234567"
HEADERS = {"X-API-Key": TOKEN, "X-Internal-Api-Key": TOKEN, "Authorization": f"Api-Key {TOKEN}"}


def steps() -> Iterator[tuple[str, Callable[[], None]]]:
    yield "no key is sent", _no_key_is_sent


def _no_key_is_sent() -> None:
    import json
    import logging
    from typing import Any

    import sentry_sdk
    from django.http import HttpRequest, HttpResponse
    from django.test import Client, override_settings
    from django.urls import path
    from sentry_sdk.transport import Transport

    from keys.decorators import api_key_required
    from keys.verification import Guard
    from tests.docs.pages import block, run

    sent: list[str] = []

    class Kept(Transport):
        def capture_envelope(self, envelope: Any) -> None:
            sent.extend(json.dumps(item.payload.json) for item in envelope.items)

    def breaks(request: HttpRequest) -> HttpResponse:
        meta, headers = request.META, dict(request.headers)  # noqa: F841  what Sentry reads from the frame
        logging.getLogger("project").info("Calling on.", extra={"x_internal_api_key": TOKEN})
        raise RuntimeError("the view broke")

    guards = [Guard(header=name) for name in ("X-API-Key", "X-Internal-Api-Key")]
    patterns = [path(f"{number}/", api_key_required(guard=guard)(breaks)) for number, guard in enumerate(guards)]
    patterns.append(path("unguarded/", breaks))

    text = block("docs/security.md", "## Error reports", "python")
    for personal in ("dsn=", "send_default_pii=True, dsn="):
        run(text.replace("dsn=", personal))
        sentry_sdk.get_client().transport = Kept()
        sent.clear()
        _make_key()
        with override_settings(ROOT_URLCONF=tuple(patterns)):
            for address in ("/0/", "/1/", "/unguarded/"):
                for name, value in HEADERS.items():
                    Client(raise_request_exception=False).get(address, headers={name: value})
        sentry_sdk.flush()
        assert [text for text in sent if "the view broke" in text]
        assert not [text for text in sent if TOKEN in text]


def _make_key() -> None:
    from keys.models import APIKey

    APIKey.objects.filter(name="Watched").delete()
    APIKey.objects.create(name="Watched", key=TOKEN)
