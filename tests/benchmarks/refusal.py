"""An authenticator that refuses everybody and does nothing else."""

from typing import NoReturn

from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request


class Refuse(BaseAuthentication):
    def authenticate(self, request: Request) -> NoReturn:
        raise AuthenticationFailed("Invalid API key.")

    def authenticate_header(self, request: Request) -> str:
        return "Api-Key"
