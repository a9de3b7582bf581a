from rest_framework import serializers, viewsets
from rest_framework.authentication import SessionAuthentication
from rest_framework.decorators import action
from rest_framework.permissions import DjangoModelPermissions
from rest_framework.response import Response

from inventory.models import Device
from keys.authentication import APIKeyAuthentication
from keys.permissions import HasResourceScope, IsUser


class ActingKeyAuthentication(APIKeyAuthentication):
    acts_as_owner = True


class DeviceSerializer(serializers.ModelSerializer):
    class Meta:
        model = Device
        fields = ["id", "name", "created_by", "is_retired"]
        read_only_fields = ["created_by", "is_retired"]


class Devices(viewsets.ModelViewSet):
    queryset = Device.objects.order_by("pk")
    serializer_class = DeviceSerializer
    authentication_classes = [SessionAuthentication, ActingKeyAuthentication]
    permission_classes = [IsUser | HasResourceScope("devices"), DjangoModelPermissions]
    action_scopes = {"retire": "devices:retire"}

    def perform_create(self, serializer):
        serializer.save(created_by=self.request.user)

    @action(detail=True, methods=["post"])
    def retire(self, request, pk):
        device = self.get_object()
        device.is_retired = True
        device.save()
        return Response(self.get_serializer(device).data)
