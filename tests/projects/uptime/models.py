from django.conf import settings
from django.db import models


class Project(models.Model):
    name = models.CharField(max_length=100)
    members = models.ManyToManyField(settings.AUTH_USER_MODEL, related_name="projects")
    is_paid = models.BooleanField(default=True)

    def __str__(self):
        return self.name


class Ping(models.Model):
    project = models.ForeignKey(Project, on_delete=models.CASCADE, related_name="pings")
    at = models.DateTimeField(auto_now_add=True)

    def __str__(self):
        return f"{self.project}, {self.at}"
