from .files import openapi_files

__all__ = ["openapi_files"]
