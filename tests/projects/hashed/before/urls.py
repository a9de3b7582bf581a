from django.contrib import admin
from django.urls import path

from hashed.views import Events

urlpatterns = [path("admin/", admin.site.urls), path("call/", Events.as_view())]
