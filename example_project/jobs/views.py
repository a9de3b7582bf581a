from rest_framework import generics

from example_project.jobs.authentication import InternalAPIAuthentication
from example_project.jobs.models import Job
from example_project.jobs.serializers import JobSerializer
from keys.permissions import HasAPIKey


class JobListView(generics.ListAPIView[Job]):
    """`GET` answers `[{"id", "name", "state"}, ...]`, the newest job first."""

    authentication_classes = [InternalAPIAuthentication]
    permission_classes = [HasAPIKey]
    queryset = Job.objects.all()
    serializer_class = JobSerializer
