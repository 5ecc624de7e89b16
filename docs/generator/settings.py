"""Pages of the files that people write: each key with its type, its default and its meaning, from the JSON Schemas."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Any, Final

from pydantic import TypeAdapter

from generator.markdown import code, first_sentence, prose, table
from generator.schemas import FILES, Schema, SettingsFile, published, schema_of, text_of
from remit.core.parsing import Duration, Size

# Texts with a format of their own, by the pattern of their schema.
FORMATS: Final = {
    TypeAdapter(kind).json_schema()["pattern"]: name for kind, name in ((Duration, "duration"), (Size, "size"))
}
HEAD: Final = ("key", "type", "default", "meaning")
# What the pages need to say beside the keys.
NOTES: Final = {
    "script": 'With `model = "script:script.yaml"` in agent.toml the model is this script. Everything else is real.',
    "scope": "A scope narrows one run: a call must be allowed by the scope too.",
    "tool-cases": "`remit tool test` carries these calls out. `expect` has exactly one of `value`, `value_contains` and `error`.",
    "cases": "`remit policy test` asks the rules for each row.",
    "content-cases": "`remit policy test` checks each row.",
}


def pages() -> dict[str, str]:
    """The index, a page for each file, and the published schemas."""
    made = {f"reference/files/{file.name}.md": _page(file) for file in FILES}
    made["reference/files/README.md"] = _index()
    for name, schema in published().items():
        made[f"reference/schemas/{name}"] = text_of(schema)
    return made


def shown_type(schema: Schema) -> str:
    """The type of a value as a person reads it."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{_title(name)}](#{_anchor(name)})"
    if "enum" in schema:
        return " or ".join(code(json.dumps(value)) for value in schema["enum"])
    if "const" in schema:
        return code(json.dumps(schema["const"]))
    for union in ("anyOf", "oneOf"):
        if union in schema:
            return " or ".join(dict.fromkeys(shown_type(one) for one in schema[union] if one != {"type": "null"}))
    kind: Any = schema.get("type", "any value")
    if isinstance(kind, list):
        return " or ".join(map(str, kind))
    if kind == "array":
        items: Any = schema.get("items") or next(iter(schema.get("prefixItems", [])), {})
        return f"list of {shown_type(items)}"
    if kind == "object":
        values = schema.get("additionalProperties") or next(iter(schema.get("patternProperties", {}).values()), None)
        return f"table of {shown_type(values)}" if isinstance(values, dict) else "table"
    return FORMATS.get(str(schema.get("pattern")), f"{kind}{_range(schema)}")


def _range(schema: Schema) -> str:
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is None:
        return ""
    return f", at least {low:g}" if high is None else f", {low:g} to {high:g}"


def table_of(schema: Schema, defs: Schema) -> str:
    """The keys of one table."""
    required = schema.get("required", ())
    return table(
        HEAD,
        (
            (
                code(name),
                shown_type(key),
                "required" if name in required else _default(key),
                key.get("description") or _of_table(key, defs),
            )
            for name, key in schema.get("properties", {}).items()
        ),
    )


def sections(schema: Schema, level: str = "##", but: Collection[str] = ("Row",)) -> Iterator[str]:
    """One section for each table that the schema defines, without those of `but`."""
    defs = schema.get("$defs", {})
    for name, inner in defs.items():
        if name in but:
            continue
        yield f"{level} {_title(name)}\n\n{prose(inner.get('description', ''))}"
        if "properties" in inner:
            yield table_of(inner, defs)
        else:
            yield f"{shown_type(inner)}\n\n"


def _page(file: SettingsFile) -> str:
    schema = schema_of(file)
    defs = schema.get("$defs", {})
    top = defs["Row"] if file.rows else schema
    parts = [
        f"# {code(file.path)}\n\n",
        prose(top.get("description", "")),
        f"{NOTES[file.name]}\n\n" if file.name in NOTES else "",
        f"JSON Schema: [{file.name}.schema.json](../schemas/{file.name}.schema.json).\n\n",
        "The file is a list of rows with these keys.\n\n" if file.rows else "",
        table_of(top, defs),
        *sections(schema),
    ]
    return "".join(parts)


def _index() -> str:
    rows = ((f"[{code(file.path)}]({file.name}.md)", file.what) for file in FILES)
    return (
        "# Files\n\nThe files of a workspace that people write. An unknown key or a wrong type is an error, with its line.\n\n"
        + table(("file", "content"), rows)
        + _FORMATS
    )


_FORMATS: Final = """## Formats

| name | written as |
|---|---|
| duration | a number and `ms`, `s`, `m` or `h`: `"5s"` |
| size | a whole number and `B`, `KiB`, `MiB` or `GiB`: `"256MiB"` |

## Schemas for editors

`remit init` writes the schemas into `.remit/schemas/` and `tools/`. Editors with a TOML or YAML language server read the first line of
a file, and then complete keys and mark errors:

```toml
#:schema ../../.remit/schemas/agent.schema.json
```

```yaml
# yaml-language-server: $schema=../.remit/schemas/cases.schema.json
```

`policies/rules.csv` and `policies/model.conf` have no schema: see [the policies folder](../../../policies/README.md).
`policies/tools.lock` is written by `remit tool pin` only.
"""


def _default(key: Schema) -> str:
    value: Any = key.get("default")
    if value is None or value in ([], {}, "") or isinstance(value, dict):
        return ""
    return code(json.dumps(value, ensure_ascii=False))


def _of_table(key: Schema, defs: Schema) -> str:
    """The first sentence on the table that a key has, if the key has no description of its own."""
    for one in (key, key.get("items", {}), *key.get("anyOf", ())):
        if isinstance(one, dict) and "$ref" in one:
            return first_sentence(defs[one["$ref"].rpartition("/")[2]].get("description", ""))
    return ""


def _title(name: str) -> str:
    return name.removesuffix("Table") or name


def _anchor(name: str) -> str:
    return _title(name).lower()
