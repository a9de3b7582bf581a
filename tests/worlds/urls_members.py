"""The addresses of a world in which people look after keys of their own."""

from django.contrib.auth.decorators import login_not_required
from django.http import HttpRequest, HttpResponse
from django.urls import include, path

from tests.worlds.urls import urlpatterns as ordinary


@login_not_required
def log_in(request: HttpRequest) -> HttpResponse:
    return HttpResponse("Who are you?")


urlpatterns = [*ordinary, path("log-in", log_in), path("members/keys/", include("keys.selfservice.pages"))]
