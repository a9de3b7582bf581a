"""A tenant, and the host by which it is found."""

from django_tenants.models import DomainMixin, TenantMixin


class Tenant(TenantMixin):
    """A customer with a schema of its own, which is dropped with it."""

    auto_drop_schema = True


class Domain(DomainMixin):
    """A host of a tenant."""
