from django.http import JsonResponse


def error(status, message):
    return JsonResponse({"error": {"status": status, "message": message}}, status=status)
