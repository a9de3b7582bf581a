"""The view that every guard guards, each by classes on the view as the READMEs show."""

from django.utils.module_loading import import_string
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from tests.benchmarks.guards import configured_guard

guard = configured_guard()


class StatusView(APIView):
    authentication_classes = [import_string(name) for name in guard.authentication]
    permission_classes = [import_string(name) for name in guard.permissions]

    def get(self, request: Request) -> Response:
        return Response({"status": "ok"})
