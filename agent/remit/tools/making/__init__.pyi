from .files import FORMS, NewTool, Origin, new_tool, write_tool

__all__ = ["FORMS", "NewTool", "Origin", "new_tool", "write_tool"]
