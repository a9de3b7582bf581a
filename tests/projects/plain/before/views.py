from django.http import JsonResponse

from plain.bearer import client_required


@client_required
def orders(request):
    return JsonResponse({"orders": [], "for": request.client})
