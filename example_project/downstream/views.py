import jwt
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from example_project.downstream import auth_service


@require_GET
def greetings(request: HttpRequest) -> JsonResponse:
    """`GET ?user=1&user=99` says what to speak: `{"greetings": {"1": "Hello Anna Berg."}, "unknown": [99]}`."""
    try:
        ids = [int(value) for value in request.GET.getlist("user")]
    except ValueError:
        return JsonResponse({"detail": "Each user must be a number."}, status=400)
    found = auth_service.greetings_for(ids, request.headers.get("X-Request-ID", ""))
    return JsonResponse({"greetings": found.sentences, "unknown": found.unknown})


@require_GET
@never_cache
def voices(request: HttpRequest) -> JsonResponse:
    """`GET` with a key of the auth service names the voices that there are, and whose key it is."""
    key = request.headers.get("X-API-Key", "")
    found = auth_service.asked_about(key, request) if key else None
    if found is None or not found.is_active:
        detail = "Authentication credentials were not provided." if found is None else "Invalid API key."
        return JsonResponse({"detail": detail}, status=401, headers={"WWW-Authenticate": 'Api-Key realm="api"'})
    return JsonResponse({"voices": ["alto", "bass"], "for": found["username"]})


@require_GET
@never_cache
def me(request: HttpRequest) -> JsonResponse:
    """`GET` answers users with their own details, which the auth service gives to their JWT and not to our key."""
    try:
        answer = auth_service.details_of(claimed_user_id(request), request)
    except ValueError:
        return JsonResponse(
            {"detail": "Send the JWT of a user, as Authorization: Bearer or in the cookie access_token."},
            status=401,
            headers={"WWW-Authenticate": 'Bearer realm="api"'},
        )
    challenge = {"WWW-Authenticate": 'Bearer realm="api"'} if answer.status_code == 401 else {}
    return JsonResponse(answer.json(), status=answer.status_code, headers=challenge)


def claimed_user_id(request: HttpRequest) -> int:
    """The id that the request's JWT speaks of; ValueError if there is no such thing.

    It only chooses the address to ask at. Whether the token is genuine is for the auth service to say, which alone
    knows the secret; an integer and nothing else, as it becomes part of that address.
    """
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    token = token if scheme.lower() == "bearer" else request.COOKIES.get("access_token", "")
    try:
        claims = jwt.decode(token.strip(), options={"verify_signature": False})
        return int(claims["user_id"])
    except (jwt.InvalidTokenError, KeyError, TypeError) as error:
        raise ValueError("The request carries no JWT of a user.") from error
