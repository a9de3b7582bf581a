from django.urls import path, re_path

from example_project.jobs.authentication import InternalAPIAuthentication
from example_project.jobs.views import JobListView
from example_project.views import UnknownPathView

app_name = "jobs"
urlpatterns = [
    path("jobs", JobListView.as_view(), name="list"),
    # "^" is the beginning of what is left of the path: everything below the prefix, line breaks included.
    re_path("^", UnknownPathView.as_view(authentication_classes=[InternalAPIAuthentication]), name="unknown-path"),
]
