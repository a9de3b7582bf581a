from django.contrib import admin
from django.urls import path

from plain.views import orders

urlpatterns = [path("admin/", admin.site.urls), path("call/", orders)]
