from .routing import page_routes

__all__ = ["page_routes"]
