from functools import wraps

from plain.answers import error
from plain.models import Client


def client_required(view):
    @wraps(view)
    def guarded(request, *args, **kwargs):
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        client = Client.objects.filter(token=token, is_enabled=True).first() if scheme == "Bearer" else None
        if client is None:
            return error(401, "Send a token.")
        request.client = client.name
        return view(request, *args, **kwargs)

    return guarded
