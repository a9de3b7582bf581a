from typing import Any, cast

from django.conf import settings
from django.contrib.auth import views as auth_views
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import generics
from rest_framework.authentication import SessionAuthentication
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework_simplejwt.settings import api_settings as jwt_settings
from rest_framework_simplejwt.views import TokenViewBase

from example_project.accounts.authentication import ACCESS_TOKEN_COOKIE, CookieOrBearerJWTAuthentication
from example_project.accounts.models import Department, Employee
from example_project.accounts.serializers import (
    AccessTokenSerializer,
    DepartmentSerializer,
    EmployeeSerializer,
    LoginSerializer,
    UserIdsSerializer,
    UserSerializer,
    UsersInfoSerializer,
)
from keys.authentication import APIKeyAuthentication
from keys.permissions import HasScope, IsUser


class InternalUserView(generics.RetrieveAPIView[User]):
    """`GET` answers another service with a user's details, deactivated users included (`is_active` tells)."""

    authentication_classes = [APIKeyAuthentication]
    permission_classes = [HasScope("users:read")]
    queryset = User.objects.all()
    serializer_class = UserSerializer


class InternalEmployeeView(generics.RetrieveAPIView[Employee]):
    """`GET` answers another service with an employee's details and the user behind them."""

    authentication_classes = [APIKeyAuthentication]
    permission_classes = [HasScope("employees:read")]
    queryset = Employee.objects.select_related("user", "department")
    serializer_class = EmployeeSerializer


class DepartmentsView(generics.ListAPIView[Department]):
    """`GET` lists the departments, for users who are logged in, and for services with the scope."""

    authentication_classes = [CookieOrBearerJWTAuthentication, SessionAuthentication, APIKeyAuthentication]
    permission_classes = [IsUser | HasScope("employees:read")]
    queryset = Department.objects.all()
    serializer_class = DepartmentSerializer


class UsersInfoView(APIView):
    """`POST` `{"ids": [...]}` looks users up in a batch: `{"users": [...], "missing": [ids of no user]}`.

    Both lists are in order of first appearance, and an id that is asked for twice is answered once. 400 for more than
    500 ids, and for anything but a list of integers of 64 bits.
    """

    authentication_classes = [APIKeyAuthentication]
    permission_classes = [HasScope("users:read")]

    @extend_schema(request=UserIdsSerializer, responses=UsersInfoSerializer)
    def post(self, request: Request) -> Response:
        body = UserIdsSerializer(data=request.data)
        body.is_valid(raise_exception=True)
        ids = list(dict.fromkeys(body.validated_data["ids"]))
        users = {user.pk: user for user in User.objects.filter(pk__in=ids)}
        found = [users[pk] for pk in ids if pk in users]
        missing = [pk for pk in ids if pk not in users]
        return Response(UsersInfoSerializer({"users": found, "missing": missing}).data)


@method_decorator(never_cache, name="dispatch")
class UserView(generics.RetrieveAPIView[User]):
    """`GET` shows users their own details, and staff those of anybody.

    To anybody else another id is 403, whether or not there is such a user. Keys do not open it: it names the JSON Web
    Token as its only way in, so an API key is not even looked at.
    """

    authentication_classes = [CookieOrBearerJWTAuthentication]
    permission_classes = [IsAuthenticated]
    queryset = User.objects.all()
    serializer_class = UserSerializer

    def get_object(self) -> User:
        user = cast(User, self.request.user)
        if self.kwargs["pk"] == user.pk:
            return user
        if not user.is_staff:
            self.permission_denied(self.request)
        return super().get_object()


class LogoutView(auth_views.LogoutView):
    """Ends the session, and takes away the cookie with the JSON Web Token, which would let in the next person."""

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        response = super().post(request, *args, **kwargs)
        response.delete_cookie(ACCESS_TOKEN_COOKIE, samesite="Lax")
        return response


@method_decorator(never_cache, name="dispatch")
class LoginView(TokenViewBase):
    """`POST` `{"username", "password"}` returns `{"access_token"}` and sets the cookie `access_token` to the same.

    The cookie `csrftoken` holds what a page of ours sends as `X-CSRFToken`, where the other cookie changes something.
    Wrong: 401, with the same words whether or not there is such a user.
    """

    serializer_class = LoginSerializer

    @extend_schema(responses={200: AccessTokenSerializer, 401: OpenApiTypes.OBJECT})
    def post(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        response = super().post(request, *args, **kwargs)
        get_token(request._request)
        response.set_cookie(
            ACCESS_TOKEN_COOKIE,
            response.data["access_token"],
            max_age=jwt_settings.ACCESS_TOKEN_LIFETIME,
            httponly=True,
            samesite="Lax",
            secure=not settings.DEBUG,
        )
        return response
