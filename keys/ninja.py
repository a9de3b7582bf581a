"""Django Ninja: `@api.get("/orders", auth=APIKeyAuth("orders:read"))`. Ninja's own throttles limit the rate."""

from django.http import HttpRequest
from ninja.errors import HttpError
from ninja.security.base import AuthBase

from .authentication import set_user, user_for
from .credentials import BASIC
from .keyrings import Holder
from .verification import Guard, scope_denial, use_of


class APIKeyAuth(AuthBase):
    """Accepts requests whose key holds all the scopes; `guard` tells where keys are read from and stored.

    `request.auth` is the key, `request.user` the service, or the owner with `guard=Guard(acts_as_owner=True)`.

    Ninja documents one scheme for each class: subclass it for another header. It is that of the guard's first header,
    and names the other places of a key in words.
    """

    openapi_type = "apiKey"
    openapi_in = "header"

    def __init__(self, *scopes: str, guard: Guard | None = None) -> None:
        self.scopes, self.guard = scopes, guard or Guard()
        self.openapi_name, *others = self.guard.wanted.headers
        others += [f"Authorization: {_after(keyword)}" for keyword in self.guard.wanted.keywords]
        if others and not hasattr(self, "openapi_description"):
            self.openapi_description = f"Or {', or '.join(others)}."
        super().__init__()

    def __call__(self, request: HttpRequest) -> Holder | None:
        """Return the key; None if none was presented, or it is left to others. Raises HttpError if it is refused."""
        use = use_of(request, self.guard)
        if use is None or use.is_left:
            return None  # only the answer tells whether another one accepts it
        if use.holder is None or not use.is_good:
            raise HttpError(use.status, use.detail)
        if denial := scope_denial(use, self.scopes):
            raise HttpError(403, denial)
        set_user(request, user_for(use.holder, self.guard))
        return use.holder


def _after(keyword: str) -> str:
    return "Basic, with the key as the password" if keyword.lower() == BASIC else f"{keyword} <key>"
