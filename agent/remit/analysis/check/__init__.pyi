from .formats import FORMATS, Format, report_text
from .workspace import CheckReport, check_workspace, edit_workspace

__all__ = ["FORMATS", "CheckReport", "Format", "check_workspace", "edit_workspace", "report_text"]
