from django.urls import path

from tests.benchmarks.views import StatusView

urlpatterns = [path("api/v1/status/", StatusView.as_view(), name="status")]
