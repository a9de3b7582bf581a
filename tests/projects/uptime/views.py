from django.shortcuts import get_object_or_404
from rest_framework.response import Response
from rest_framework.views import APIView

from keys.authentication import APIKeyAuthentication
from keys.permissions import HasScope, IsUser


class Pings(APIView):
    authentication_classes = [APIKeyAuthentication]
    permission_classes = [HasScope("pings:write")]

    def post(self, request):
        project = request.auth.owner  # None for a key without an owner
        if project is None:
            return Response({"detail": "This key belongs to no project."}, status=400)
        project.pings.create()
        return Response({"project": project.name, "pings": project.pings.count()}, status=201)


class ProjectDetail(APIView):
    permission_classes = [IsUser]  # members, who have logged in

    def delete(self, request, pk):
        get_object_or_404(request.user.projects, pk=pk).delete()
        return Response(status=204)
