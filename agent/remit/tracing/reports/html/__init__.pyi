from .document import escaped, html_document
from .page import write_page

__all__ = ["escaped", "html_document", "write_page"]
