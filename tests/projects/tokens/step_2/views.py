from rest_framework.authtoken.serializers import AuthTokenSerializer
from rest_framework.response import Response
from rest_framework.views import APIView

from keys.models import APIKey


class Notes(APIView):
    def get(self, request):
        return Response({"notes": [note.text for note in request.user.notes.all()]})


class LogIn(APIView):
    authentication_classes = []
    permission_classes = []

    def post(self, request):
        form = AuthTokenSerializer(data=request.data, context={"request": request})
        form.is_valid(raise_exception=True)
        user = form.validated_data["user"]
        key = APIKey.objects.create(name=f"{user}, by log-in", owner=user)
        return Response({"token": key.key})
