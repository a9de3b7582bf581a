"""A project like many with Django REST framework: each user has a token, which a log-in gives."""
