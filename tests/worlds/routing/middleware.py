"""Sets the region by the host, and takes it back after the view, before the outcome is known."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

from tests.worlds.routing import region


def by_host(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    def respond(request: HttpRequest) -> HttpResponse:
        token = region.set("west" if request.get_host().startswith("west") else "default")
        try:
            return get_response(request)
        finally:
            region.reset(token)

    return respond
