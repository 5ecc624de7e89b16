from .middleware import RemitMiddleware

__all__ = ["RemitMiddleware"]
