from .html import render_html
from .junit import render_junit
from .markdown import render_markdown
from .report import EvaluationReport, ReportVerdict, report_on
from .text import render_text

__all__ = [
    "EvaluationReport",
    "ReportVerdict",
    "render_html",
    "render_junit",
    "render_markdown",
    "render_text",
    "report_on",
]
