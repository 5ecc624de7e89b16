from .content_cases import check_content
from .content_rules import CASES, CONTENT, Content, read_content
from .encodings import spellings
from .provenance import UNTRUSTED, argument_texts, carried, intends, kind_of, listed, said, telling, unnamed, written
from .redaction import Redactor, names_secret
from .sanitizer import Sanitized, Sanitizer, valid, visible
from .secrets import Secrets

__all__ = [
    "CASES",
    "CONTENT",
    "UNTRUSTED",
    "Content",
    "Redactor",
    "Sanitized",
    "Sanitizer",
    "Secrets",
    "argument_texts",
    "carried",
    "check_content",
    "intends",
    "kind_of",
    "listed",
    "names_secret",
    "read_content",
    "said",
    "spellings",
    "telling",
    "unnamed",
    "valid",
    "visible",
    "written",
]
