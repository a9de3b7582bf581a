"""A project's own admin classes, as django-unfold wants them."""
