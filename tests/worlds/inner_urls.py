"""The addresses of a world, and the views that call others."""

from django.urls import path

from tests.worlds import inner_views
from tests.worlds.urls import urlpatterns as common

urlpatterns = [
    *common,
    path("by-property/", inner_views.ByProperty.as_view()),
    path("sets-up/", inner_views.SetsUp.as_view()),
    path("in-a-partial/", inner_views.in_a_partial),
    path("calls-another/", inner_views.calls_another),
    path("sends-a-request/", inner_views.sends_a_request),
    path("batch/", inner_views.batch),
]
