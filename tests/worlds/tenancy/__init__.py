"""Tenants with a schema each, by django-tenants: their models, and what is asked of each kind of project with them."""
