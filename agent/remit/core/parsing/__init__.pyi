from .bounded_readers import LARGEST_LINE, count_of, load_json, load_toml, load_yaml, read_file, read_text
from .exact_json import Arguments, CopyOnRead
from .file_patterns import covered
from .hidden_characters import hidden_character, visible, visible_json
from .json_schema import ANNOTATIONS, COMBINING, KEYWORDS, check_schema, closed, is_type, resolved, types_in, types_of
from .json_texts import leaves, map_texts, texts_of
from .json_validation import Mismatch, validate
from .names import SLASHED, canonical, is_name, proper_name, resource_of, tables_of
from .strict_json import canonical_json, digest, digest_bytes, parse_arguments, parse_json
from .toml import Matching, TomlTable, invalid, lines_of, read_table, toml_line
from .toml_fields import Duration, Label, Size, Summary, duration, size
from .urls import DEFAULT_PORT, SCHEMES, SERVER_KIND, URL_KINDS, Url, canonical_host, canonical_url
from .yaml import MOST_BITS, YamlRow, plain_value, read_rows, table_text

__all__ = [
    "ANNOTATIONS",
    "COMBINING",
    "DEFAULT_PORT",
    "KEYWORDS",
    "LARGEST_LINE",
    "MOST_BITS",
    "SCHEMES",
    "SERVER_KIND",
    "SLASHED",
    "URL_KINDS",
    "Arguments",
    "CopyOnRead",
    "Duration",
    "Label",
    "Matching",
    "Mismatch",
    "Size",
    "Summary",
    "TomlTable",
    "Url",
    "YamlRow",
    "canonical",
    "canonical_host",
    "canonical_json",
    "canonical_url",
    "check_schema",
    "closed",
    "count_of",
    "covered",
    "digest",
    "digest_bytes",
    "duration",
    "hidden_character",
    "invalid",
    "is_name",
    "is_type",
    "leaves",
    "lines_of",
    "load_json",
    "load_toml",
    "load_yaml",
    "map_texts",
    "parse_arguments",
    "parse_json",
    "plain_value",
    "proper_name",
    "read_file",
    "read_rows",
    "read_table",
    "read_text",
    "resolved",
    "resource_of",
    "size",
    "table_text",
    "tables_of",
    "texts_of",
    "toml_line",
    "types_in",
    "types_of",
    "validate",
    "visible",
    "visible_json",
]
