"""Django Ninja: `@api.get("/orders", auth=APIKeyAuth("orders:read"))`. A key's rate is left to Ninja's throttles."""

from django.http import HttpRequest
from django.utils.translation import gettext as _
from ninja.errors import HttpError
from ninja.security.base import AuthBase

from .keyrings import Holder
from .scopes import grants
from .verification import Guard, Reason, objecting, use_of


class APIKeyAuth(AuthBase):
    """Lets in requests whose key holds every one of the scopes; `guard` is where keys are looked for.

    Ninja's documentation has one scheme for each class: subclass it for another header.
    """

    openapi_type = "apiKey"
    openapi_in = "header"

    def __init__(self, *scopes: str, guard: Guard | None = None) -> None:
        self.scopes, self.guard = scopes, guard or Guard()
        self.openapi_name = self.guard.header
        super().__init__()

    def __call__(self, request: HttpRequest) -> Holder | None:
        """Return the key, or None where none was presented. Raises HttpError where it is refused."""
        use = use_of(request, self.guard)
        if use is None:
            return None
        if use.holder is None or not use.is_good:
            raise HttpError(use.status, use.detail)
        for scope in self.scopes:
            if not grants(use.holder.scopes, scope):
                objecting(request, Reason.SCOPE)
                raise HttpError(403, _("This API key lacks the scope “%(scope)s”.") % {"scope": scope})
        return use.holder
