from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "example_project.accounts"

    def ready(self) -> None:
        from example_project.accounts import schema  # noqa: F401  the documentation learns of the cookie
