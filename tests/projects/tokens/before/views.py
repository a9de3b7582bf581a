from rest_framework.response import Response
from rest_framework.views import APIView


class Notes(APIView):
    def get(self, request):
        return Response({"notes": [note.text for note in request.user.notes.all()]})
