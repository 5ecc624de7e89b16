from .content_cases import check_content
from .content_rules import CASES, CONTENT, Content, read_content
from .encodings import spellings
from .grounding import Grounding
from .provenance import (
    UNTRUSTED,
    argument_texts,
    contained_kinds,
    directory_entries,
    kind_of,
    quotes_all,
    repeated_names,
    requests_action,
    traceable_values,
    unnamed_resources,
)
from .redaction import Redactor, is_secret_name, secrets_of_environment
from .sanitizer import AlreadySanitized, Sanitizer, valid, with_visible_characters
from .secret_sources import SecretSource
from .secrets import RunSecrets, Secrets, of_user

__all__ = [
    "CASES",
    "CONTENT",
    "UNTRUSTED",
    "AlreadySanitized",
    "Content",
    "Grounding",
    "Redactor",
    "RunSecrets",
    "Sanitizer",
    "SecretSource",
    "Secrets",
    "argument_texts",
    "check_content",
    "contained_kinds",
    "directory_entries",
    "is_secret_name",
    "kind_of",
    "of_user",
    "quotes_all",
    "read_content",
    "repeated_names",
    "requests_action",
    "secrets_of_environment",
    "spellings",
    "traceable_values",
    "unnamed_resources",
    "valid",
    "with_visible_characters",
]
