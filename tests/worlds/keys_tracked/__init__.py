"""An app that has the keys written down by django-reversion and django-simple-history."""
