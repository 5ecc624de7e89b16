from .formats import FORMATS, Format, report_text
from .upgrading import check_upgrade
from .workspace import CheckReport, check_workspace, edit_workspace

__all__ = ["FORMATS", "CheckReport", "Format", "check_upgrade", "check_workspace", "edit_workspace", "report_text"]
