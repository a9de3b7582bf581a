from keys.decorators import api_key_required
from keys.verification import Guard

client_required = api_key_required("orders:read", guard=Guard(keyword="Bearer"))
