from .document import STYLE, escaped, html_document
from .page import SCRIPT, render_body, render_page, write_page

__all__ = ["SCRIPT", "STYLE", "escaped", "html_document", "render_body", "render_page", "write_page"]
