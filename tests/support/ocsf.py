"""The classes of the Open Cybersecurity Schema Framework that audit records use, as JSON Schema, from a pinned version.

The PyPI package `ocsf-json-schema` (MIT) contains the schemas of OCSF (https://github.com/ocsf/ocsf-schema, Apache-2.0) and writes them as
JSON Schema. To write `ocsf_1_8_0.json` again:

    pip install --target FOLDER --no-deps ocsf-json-schema==1.2.0
    PYTHONPATH=FOLDER python tests/support/ocsf.py
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Final

VERSION: Final = "1.8.0"
CLASSES: Final = {6003: "api_activity", 3004: "entity_management", 3005: "user_access"}
FILE: Final = Path(__file__).with_name(f"ocsf_{VERSION.replace('.', '_')}.json")


@cache
def schemas() -> dict[int, Any]:
    """The schema of each class, by its number."""
    found = json.loads(FILE.read_text(encoding="utf-8"))
    return {int(uid): {**schema, "$defs": found["$defs"]} for uid, schema in found["classes"].items()}


def check(record: dict[str, Any]) -> None:
    """Raise Mismatch if the record is not what its class says. An unknown key is none of the class."""
    from remit.core.parsing.json_validation import validate

    assert record["metadata"]["version"] == VERSION
    validate(schemas()[record["class_uid"]], record, fill=False)


def _write() -> None:
    from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema  # type: ignore[import-not-found]

    made = OcsfJsonSchemaEmbedded(get_ocsf_schema(version=VERSION))
    classes: dict[str, Any] = {}
    definitions: dict[str, Any] = {}
    for uid, name in CLASSES.items():
        schema = _without_titles(made.get_class_schema(name))
        definitions |= schema.pop("$defs")
        classes[str(uid)] = schema
    source = f"ocsf-json-schema 1.2.0, OCSF {VERSION}; titles and marks of deprecation are left out"
    text = json.dumps(
        {"source": source, "classes": classes, "$defs": definitions}, separators=(",", ":"), sort_keys=True
    )
    FILE.write_text(text + "\n", encoding="utf-8")


def _without_titles(schema: Any) -> Any:
    if not isinstance(schema, dict):
        return [_without_titles(item) for item in schema] if isinstance(schema, list) else schema
    kept: dict[str, Any] = {}
    for name, value in schema.items():
        if name in ("properties", "$defs"):
            kept[name] = {key: _without_titles(item) for key, item in value.items()}
        elif name not in ("title", "deprecated", "$id", "$schema"):
            kept[name] = _without_titles(value)
    return kept


if __name__ == "__main__":
    _write()
