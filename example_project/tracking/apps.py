from django.apps import AppConfig


class TrackingConfig(AppConfig):
    name = "example_project.tracking"
