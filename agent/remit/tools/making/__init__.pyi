from .files import FORMS, new_tool, write_tool

__all__ = ["FORMS", "new_tool", "write_tool"]
