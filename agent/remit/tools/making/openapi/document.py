"""Reads an OpenAPI document (3.0 or 3.1) within bounds, and follows its references, which stay inside of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from remit.core import Json, UsageError
from remit.core.parsing import LARGEST_LINE, load_json, load_yaml, plain_value, read_text, resolved

LARGEST: Final = 32 << 20  # bytes of a document in JSON; of one in YAML, as of other files that people write
_DEEPEST: Final = 16  # references that lead to references


class Unfit(ValueError):
    """A part of the document that cannot become a part of a tool. The text says why."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """An OpenAPI document. `old`: version 3.0, whose schemas differ from JSON Schema 2020-12."""

    root: Mapping[str, Json]
    old: bool

    def table(self, node: Json) -> Mapping[str, Json]:
        """The object that the node is, or that it refers to.

        Raises:
            Unfit: it is no object, or its `$ref` leads out of the document or in a circle.
        """
        for _ in range(_DEEPEST):
            if not isinstance(node, dict):
                raise Unfit("a part of its description is no object")
            table = cast("Mapping[str, Json]", node)
            if "$ref" not in table:
                return table
            node = self.target(table["$ref"])
        raise Unfit("a '$ref' of its description leads in a circle")

    def target(self, reference: Json) -> Json:
        """What a `$ref` names. Raises Unfit unless it is in this document."""
        found = resolved(cast("Json", self.root), reference) if isinstance(reference, str) else None
        if found is None:
            raise Unfit(f"the reference {json.dumps(reference)[:100]} leads to nothing in the same file")
        return found

    def tables(self, node: Json) -> list[Mapping[str, Json]]:
        """The objects of a list; none for what is absent. Raises Unfit."""
        if node is None:
            return []
        if not isinstance(node, list):
            raise Unfit("a part of its description is no list")
        return [self.table(item) for item in cast("Sequence[Json]", node)]


def read_document(path: Path) -> Document:
    """The document of a file in JSON or YAML.

    Raises:
        WorkspaceError: the file cannot be read.
        UsageError: it is no OpenAPI document of version 3.0 or 3.1.
    """
    text = read_text(path, file=str(path), most=min(LARGEST, LARGEST_LINE))
    try:
        root = load_json(text) if text.lstrip()[:1] == "{" else plain_value(load_yaml(text, file=str(path)))
    except ValueError as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    table = cast("Mapping[str, Json]", root if isinstance(root, dict) else {})
    version = str(table.get("openapi"))
    if not version.startswith(("3.0", "3.1")):
        fix = "convert it to OpenAPI 3.1" if "swagger" in table else "name its openapi.json"
        raise UsageError(f"{path} is no OpenAPI document of version 3.0 or 3.1: {fix}")
    return Document(root=table, old=version.startswith("3.0"))
