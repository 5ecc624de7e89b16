from .exact_json import Arguments, OwnCopies
from .file_patterns import covered
from .hidden_characters import hidden_character, visible, visible_json
from .json_schema import check_schema, types_of
from .json_texts import each_text, leaves, texts_of
from .json_validation import Mismatch, validate
from .names import canonical, proper_name, resource_of, tables_of
from .outside import LARGEST_LINE, count_of, load_json, load_toml, load_yaml, read_file, read_text
from .strict_json import canonical_json, digest, digest_bytes, parse_arguments, parse_json
from .toml import Matching, TomlTable, read_table, toml_line, wrong
from .toml_fields import Duration, Label, Size, Summary, duration, size
from .urls import DEFAULT_PORT, SCHEMES, URL_KINDS, Url, canonical_host, canonical_url
from .yaml import MOST_BITS, YamlRow, read_rows, table_text

__all__ = [
    "DEFAULT_PORT",
    "LARGEST_LINE",
    "MOST_BITS",
    "SCHEMES",
    "URL_KINDS",
    "Arguments",
    "Duration",
    "Label",
    "Matching",
    "Mismatch",
    "OwnCopies",
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
    "count_of",
    "covered",
    "digest",
    "digest_bytes",
    "duration",
    "each_text",
    "hidden_character",
    "leaves",
    "load_json",
    "load_toml",
    "load_yaml",
    "parse_arguments",
    "parse_json",
    "proper_name",
    "read_file",
    "read_rows",
    "read_table",
    "read_text",
    "resource_of",
    "size",
    "table_text",
    "tables_of",
    "texts_of",
    "toml_line",
    "types_of",
    "validate",
    "visible",
    "visible_json",
    "wrong",
]
