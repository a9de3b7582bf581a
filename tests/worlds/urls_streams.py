"""The ordinary addresses, and answers that are streamed."""

from django.urls import path

from tests.support import streaming_views
from tests.worlds import urls

urlpatterns = [
    *urls.urlpatterns,
    path("streaming/", streaming_views.streaming),
    path("streaming-async/", streaming_views.streaming_async),
]
