"""Guards for what is not Django: a proxy asks about each request, or a service about a key (RFC 7662)."""

from .forwarding import ForwardAuthView
from .introspection import IntrospectionView

__all__ = ["ForwardAuthView", "IntrospectionView"]
