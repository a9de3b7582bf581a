from typing import Any, cast

from django.contrib.auth.models import User
from rest_framework import serializers
from rest_framework_simplejwt.serializers import TokenObtainSerializer
from rest_framework_simplejwt.tokens import AccessToken

from example_project.accounts.models import Department, Employee

MAX_IDS = 500


class UserSerializer(serializers.ModelSerializer[User]):
    class Meta:
        model = User
        fields = ["id", "username", "email", "first_name", "last_name", "is_active"]


class EmployeeSerializer(serializers.ModelSerializer[Employee]):
    user = UserSerializer(read_only=True)
    department = serializers.CharField(source="department.name", max_length=100, read_only=True)

    class Meta:
        model = Employee
        fields = ["id", "employee_number", "department", "position", "user"]


class DepartmentSerializer(serializers.ModelSerializer[Department]):
    class Meta:
        model = Department
        fields = ["id", "name"]


class JSONIntegerField(serializers.IntegerField):
    """An integer as JSON knows it, of 64 bits. `IntegerField` would let `"7"` and `7.0` pass for 7."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_value=-(2**63), max_value=2**63 - 1, **kwargs)

    def to_internal_value(self, data: Any) -> int:
        # bool is a subclass of int, and true is no number.
        if type(data) is not int:
            self.fail("invalid")
        return data


class UserIdsSerializer(serializers.Serializer[Any]):
    """The body of the batch look-up: `{"ids": [1, 2, 99]}`, 500 of them at the most."""

    ids = serializers.ListField(child=JSONIntegerField(), max_length=MAX_IDS)


class UsersInfoSerializer(serializers.Serializer[Any]):
    """The answer of the batch look-up."""

    users = UserSerializer(many=True)
    missing = serializers.ListField(child=serializers.IntegerField())


class AccessTokenSerializer(serializers.Serializer[Any]):
    """The answer to a log-in."""

    access_token = serializers.CharField()


class LoginSerializer(TokenObtainSerializer):
    """Takes `username` and `password`, gives the access token.

    Raises `AuthenticationFailed` with one and the same text for an unknown user, a wrong password and a deactivated
    user; Django hashes the password in each case, so the time taken says nothing either.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["password"] = serializers.CharField(write_only=True, trim_whitespace=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        super().validate(attrs)
        return {"access_token": str(AccessToken.for_user(cast(User, self.user)))}
