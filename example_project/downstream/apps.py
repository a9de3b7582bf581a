from django.apps import AppConfig


class DownstreamConfig(AppConfig):
    name = "example_project.downstream"
