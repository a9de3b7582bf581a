from keys.decorators import api_key_required
from keys.keyrings import DatabaseKeyring, LegacyKey, LegacyKeyring
from keys.verification import Guard
from plain.models import Client


class Clients(LegacyKeyring):  # until step 3, for clients that are added meanwhile
    source = "plain.Client"

    def look_up(self, token):
        client = Client.objects.filter(token=token).first()
        return None if client is None else self.key_of(client)

    def records(self):
        return map(self.key_of, Client.objects.order_by("pk"))

    def key_of(self, client):
        return LegacyKey(ref=str(client.pk), name=client.name, scopes=["orders:read"], is_active=client.is_enabled)


client_required = api_key_required(
    "orders:read", guard=Guard(keyword="Bearer", keyrings=(DatabaseKeyring(), Clients()))
)
