from django.http import JsonResponse

from inventory.models import Device
from keys.decorators import api_key_required


@api_key_required("devices:read", or_user=True)
def device_names(request):
    names = Device.objects.order_by("pk").values_list("name", flat=True)
    return JsonResponse({"names": list(names), "for": str(request.user)})
