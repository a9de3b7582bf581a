from django.urls import path, re_path

from example_project.tracking import views
from example_project.tracking.authentication import SharedKeyAuthentication, TrackingIngestAuthentication
from example_project.views import UnknownPathView
from keys.permissions import HasScope

unknown_ingest_path_view = UnknownPathView.as_view(
    authentication_classes=[TrackingIngestAuthentication],
    permission_classes=[HasScope("tracking:write")],
)
unknown_path_view = UnknownPathView.as_view(authentication_classes=[SharedKeyAuthentication])

app_name = "tracking"
urlpatterns = [
    path("tracking-ingest/test", views.TrackingIngestTestView.as_view(), name="ingest-test"),
    path("tracking-ingest/batch", views.TrackingIngestBatchView.as_view(), name="ingest-batch"),
    path("link-tracking/links", views.LinkListView.as_view(), name="links"),
    path("analyze/clicks", views.ClickAnalysisView.as_view(), name="click-analysis"),
    path("db/records", views.RecordListView.as_view(), name="records"),
    path("automation/run", views.AutomationRunView.as_view(), name="run"),
    # No "$" at the end: each guard covers everything below its prefix, line breaks included.
    re_path("^tracking-ingest/", unknown_ingest_path_view, name="unknown-ingest-path"),
    re_path("^(?:link-tracking|analyze|db|automation)/", unknown_path_view, name="unknown-path"),
]
