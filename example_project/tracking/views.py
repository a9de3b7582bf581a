from django.db.models import Count, F
from django.db.models.functions import TruncDate
from drf_spectacular.utils import extend_schema
from rest_framework import generics, status
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from example_project.jobs.models import Job
from example_project.jobs.serializers import JobSerializer
from example_project.tracking.authentication import SharedKeyAuthentication, TrackingIngestAuthentication
from example_project.tracking.batches import read_batch, store_batch
from example_project.tracking.models import Click, Link, Record
from example_project.tracking.serializers import (
    BatchSerializer,
    ClickCountSerializer,
    IngestTestSerializer,
    LinkSerializer,
    RecordSerializer,
    StoredBatchSerializer,
)
from keys.permissions import HasAPIKey, HasScope

REFUSED_BATCH = {"type": "object", "properties": {"success": {"type": "boolean"}, "errors": {"type": "object"}}}


class TrackingIngestTestView(APIView):
    """`POST` tells a third party that its key works."""

    authentication_classes = [TrackingIngestAuthentication]
    permission_classes = [HasScope("tracking:write")]

    @extend_schema(request=None, responses=IngestTestSerializer)
    def post(self, request: Request) -> Response:
        return Response({"success": True, "message": "API connection successful", "authenticated": True})


class TrackingIngestBatchView(APIView):
    """`POST` `{"clicks": [...]}` stores at most 1000 clicks: `{"success": true, "stored": n, "duplicates": m}`.

    All or none: one bad row and nothing is stored, and the 400 names each bad row by its index:
    `{"success": false, "errors": {"3": {"link": ["Unknown link."]}}}`.
    """

    authentication_classes = [TrackingIngestAuthentication]
    permission_classes = [HasScope("tracking:write")]

    @extend_schema(request=BatchSerializer, responses={200: StoredBatchSerializer, 400: REFUSED_BATCH})
    def post(self, request: Request) -> Response:
        try:
            clicks = read_batch(request.data)
        except ValidationError as error:
            return Response({"success": False, "errors": error.detail}, status=status.HTTP_400_BAD_REQUEST)
        stored = store_batch(clicks)
        return Response({"success": True, "stored": stored, "duplicates": len(clicks) - stored})


class LinkListView(generics.ListCreateAPIView[Link]):
    """`GET` lists the links by slug; `POST` `{"slug", "url"}` adds one, or answers 400 when the slug is taken."""

    authentication_classes = [SharedKeyAuthentication]
    permission_classes = [HasAPIKey]
    queryset = Link.objects.all()
    serializer_class = LinkSerializer


class ClickAnalysisView(APIView):
    """`GET` counts the clicks by link and day: `[{"link", "day", "clicks"}, ...]`, with the days of `TIME_ZONE`."""

    authentication_classes = [SharedKeyAuthentication]
    permission_classes = [HasAPIKey]

    @extend_schema(responses=ClickCountSerializer(many=True))
    def get(self, request: Request) -> Response:
        counts = (
            Click.objects.annotate(slug=F("link__slug"), day=TruncDate("clicked_at"))
            .values("slug", "day")
            .annotate(clicks=Count("pk"))
            .order_by("slug", "day")
        )
        return Response(ClickCountSerializer(counts, many=True).data)


class RecordListView(generics.ListCreateAPIView[Record]):
    """`GET` lists the records, the newest first; `POST` `{"name", "data"}` writes one. `data` is JSON, up to 16 KiB."""

    authentication_classes = [SharedKeyAuthentication]
    permission_classes = [HasAPIKey]
    queryset = Record.objects.all()
    serializer_class = RecordSerializer


class AutomationRunView(generics.CreateAPIView[Job]):
    """`POST` `{"name"}` adds a job, which from then on is seen at `/_internal/jobs`."""

    authentication_classes = [SharedKeyAuthentication]
    permission_classes = [HasAPIKey]
    serializer_class = JobSerializer
