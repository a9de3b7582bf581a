from django.contrib import admin

from peppered.models import ServiceToken

admin.site.register(ServiceToken)
