from .files import FORMS, NewTool, Origin, check_name, new_tool, write_tool

__all__ = ["FORMS", "NewTool", "Origin", "check_name", "new_tool", "write_tool"]
