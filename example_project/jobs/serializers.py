from rest_framework import serializers

from example_project.jobs.models import Job


class JobSerializer(serializers.ModelSerializer[Job]):
    class Meta:
        model = Job
        fields = ["id", "name", "state"]
        read_only_fields = ["state"]
