from django.contrib import admin

from hashed.models import PersonalKey

admin.site.register(PersonalKey)
