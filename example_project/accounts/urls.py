from django.urls import path

from example_project.accounts import views

app_name = "accounts"
urlpatterns = [
    path("auth/login/", views.LoginView.as_view(), name="login"),
    path("users/<int:pk>/", views.UserView.as_view(), name="user"),
    path("users/internal/<int:pk>/", views.InternalUserView.as_view(), name="internal-user"),
    path("hdts/employees/internal/<int:pk>/", views.InternalEmployeeView.as_view(), name="internal-employee"),
    path("departments/", views.DepartmentsView.as_view(), name="departments"),
    path("tts/users-info/", views.UsersInfoView.as_view(), name="users-info"),
]
