from keys.authentication import EnvironmentKeyAuthentication


class InternalAPIAuthentication(EnvironmentKeyAuthentication):
    """The one secret of the internal API, word for word as its clients know it."""

    header = "X-Internal-Api-Key"
    variables = ("INTERNAL_API_KEY",)
    not_configured_detail = "Internal API not configured"
    refused_detail = "Invalid or missing internal API key"
