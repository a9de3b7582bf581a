from django.contrib import admin
from django.urls import path

from peppered.views import Readings

urlpatterns = [path("admin/", admin.site.urls), path("call/", Readings.as_view())]
