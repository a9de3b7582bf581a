"""The example's addresses, and the tests' own views beside them."""

from django.urls import include, path
from django.views.decorators.cache import cache_page
from rest_framework.authentication import SessionAuthentication
from rest_framework.routers import SimpleRouter

from keys.authentication import APIKeyAuthentication
from keys.decorators import api_key_required
from keys.permissions import HasScope
from tests import views
from tests.support import streaming_views, witnesses

router = SimpleRouter()
router.register("jobs", views.Jobs, basename="jobs")

urlpatterns = [
    path("", include("tests.support.example_urls")),
    path("guarded/", views.Guarded.as_view(), name="guarded"),
    path("guarded/<str:anything>/", views.Guarded.as_view(), name="guarded-anything"),
    path("scoped/", views.Scoped.as_view(), name="scoped"),
    path("either-scope/", views.EitherScope.as_view(), name="either-scope"),
    path("not-scope/", views.NotScope.as_view(), name="not-scope"),
    path("on-an-object/", views.OnAnObject.as_view(), name="on-an-object"),
    path("throttled/", views.Throttled.as_view(), name="throttled"),
    path(
        "throttled-scoped/",
        views.Throttled.as_view(permission_classes=[HasScope("users:read")]),
        name="throttled-scoped",
    ),
    path("after-session/", views.AfterSession.as_view(), name="after-session"),
    path("public-to-read/", views.PublicToRead.as_view(), name="public-to-read"),
    path("named-late/", views.NamedLate.as_view(), name="named-late"),
    path("writing/", views.Writing.as_view(), name="writing"),
    path(
        "writing-after-session/",
        views.Writing.as_view(authentication_classes=[SessionAuthentication, APIKeyAuthentication]),
        name="writing-after-session",
    ),
    path("by-method/", views.ByMethod.as_view(), name="by-method"),
    path("witness/", witnesses.Witness.as_view(), name="witness"),
    path("witness-plain/", witnesses.witness_plain, name="witness-plain"),
    path("witness-function/", witnesses.witness_function, name="witness-function"),
    path("witness-named-late/", witnesses.WitnessNamedLate.as_view(), name="witness-named-late"),
    path("killed/", witnesses.Killed.as_view(), name="killed"),
    path("killed-named-late/", witnesses.KilledNamedLate.as_view(), name="killed-named-late"),
    path("killed-by-property/", witnesses.KilledByProperty.as_view(), name="killed-by-property"),
    path("killed-in-a-partial/", witnesses.killed_in_a_partial, name="killed-in-a-partial"),
    path("killed-in-another/", witnesses.killed_in_another, name="killed-in-another"),
    path("endless/", streaming_views.endless, name="endless"),
    path("endless-async/", streaming_views.endless_async, name="endless-async"),
    path("silent-async/", streaming_views.silent_async, name="silent-async"),
    path("silent-stream-async/", streaming_views.silent_stream_async, name="silent-stream-async"),
    path("download/", streaming_views.download, name="download"),
    path("viewset/", include(router.urls)),
    path("internal/", views.Internal.as_view(), name="internal"),
    path(
        "internal-scoped/", views.Internal.as_view(permission_classes=[HasScope("users:read")]), name="internal-scoped"
    ),
    path("mixed/", views.Mixed.as_view(), name="mixed"),
    path("several-places/", views.SeveralPlaces.as_view(), name="several-places"),
    path("several-places-async/", views.several_places_async, name="several-places-async"),
    path("two-headers/", views.TwoHeaders.as_view(), name="two-headers"),
    path("not-scope-on-an-object/", views.NotScopeOnAnObject.as_view(), name="not-scope-on-an-object"),
    path("inner-refusal/", views.InnerRefusal.as_view(), name="inner-refusal"),
    path("cached/", cache_page(60)(views.Guarded.as_view()), name="cached"),
    path("cached-plain/", cache_page(60)(views.plain), name="cached-plain"),
    path("cached-method/", cache_page(60)(views.ByMethodOfTheFramework.as_view()), name="cached-method"),
    path("guarded-twice/", api_key_required()(views.Guarded.as_view()), name="guarded-twice"),
    path("async-class/", views.AsyncClass.as_view(), name="async-class"),
    path("async-method/", views.AsyncMethod.as_view(), name="async-method"),
    path("async-behind-another/", views.AsyncBehindAnother.as_view(), name="async-behind-another"),
    path("plain/", views.plain, name="plain"),
    path("plain-async/", views.plain_async, name="plain-async"),
    path("plain-class/", views.PlainClass.as_view(), name="plain-class"),
    path("streaming/", streaming_views.streaming, name="streaming"),
    path("streaming-async/", streaming_views.streaming_async, name="streaming-async"),
]
