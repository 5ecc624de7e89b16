from .stdio import serve_stdio

__all__ = ["serve_stdio"]
