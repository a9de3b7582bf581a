from keys.authentication import EnvironmentKeyAuthentication, KeyringAuthentication
from keys.keyrings import DatabaseKeyring, EnvironmentKeyring


class TrackingIngestAuthentication(KeyringAuthentication):
    """What may be in `X-API-Key` on the tracking ingest, tried in this order.

    The third party's own key comes first, then the key that the five APIs share (until
    `TRACKING_INGEST_ALLOW_SHARED_KEY=false` ends the transition), then the keys in the database.
    """

    header = "X-API-Key"
    keyrings = (
        EnvironmentKeyring("TRACKING_INGEST_API_KEY", scopes=["tracking:write"]),
        EnvironmentKeyring(
            "WEBHOOK_API_KEY",
            enabled_by="TRACKING_INGEST_ALLOW_SHARED_KEY",
            scopes=["tracking:write"],
        ),
        DatabaseKeyring(),
    )


class SharedKeyAuthentication(EnvironmentKeyAuthentication):
    """The key that the other four APIs share, and nothing beside it."""

    header = "X-API-Key"
    variables = ("WEBHOOK_API_KEY",)
    not_configured_detail = "API key not configured"
