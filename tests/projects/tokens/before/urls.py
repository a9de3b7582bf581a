from django.urls import path
from rest_framework.authtoken.views import obtain_auth_token

from tokens.views import Notes

urlpatterns = [path("login/", obtain_auth_token), path("call/", Notes.as_view())]
