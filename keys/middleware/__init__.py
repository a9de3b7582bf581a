from .answering import APIKeyMiddleware

__all__ = ["APIKeyMiddleware"]
