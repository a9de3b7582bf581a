from django.urls import path

from tokens.views import LogIn, Notes

urlpatterns = [path("login/", LogIn.as_view()), path("call/", Notes.as_view())]
