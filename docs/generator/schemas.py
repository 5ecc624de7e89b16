"""The JSON Schema of every file that people write: for editors, and for the pages of the reference.

PYTHONPATH=docs python -m generator.schemas      write .remit/schemas/ and tools/tool.schema.json again
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

from pydantic import BaseModel, TypeAdapter

from remit.core import Result
from remit.evals.scenarios import ScenarioRow
from remit.guardrails.content_cases import ContentCase
from remit.guardrails.content_rules import ContentTable
from remit.policy.cases import Case
from remit.policy.language.teams import TeamTable
from remit.policy.run_scope import ScopeTable
from remit.runtime.models.scripted import FINISHES, ScriptedApproval
from remit.tools.cases import ToolCase
from remit.workspace.file_schema import AgentTable, SettingsTable
from remit.workspace.labels import LabelsTable
from remit.workspace.limits import SharedLimitsTable
from remit.workspace.manifest.schema import manifest_schema
from remit.workspace.prices import PricesTable

ROOT: Final = Path(__file__).resolve().parents[2]
DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
Schema: TypeAlias = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class SettingsFile:
    """One kind of file that people write.

    `name` is that of its page and its schema; `path` is where the file lies; `what` is one line; `model` defines its keys,
    None if `schema` is written by hand.
    """

    name: str
    path: str
    what: str
    model: type[BaseModel] | None = None

    @property
    def rows(self) -> bool:
        """True for a YAML file that is a list of rows."""
        return self.path.endswith(".yaml") and self.model is not None


FILES: Final = (
    SettingsFile(name="remit", path="remit.toml", what="the settings of the workspace", model=SettingsTable),
    SettingsFile(name="agent", path="agent/NAME/agent.toml", what="one agent", model=AgentTable),
    SettingsFile(name="script", path="agent/NAME/script.yaml", what="the turns of a scripted model"),
    SettingsFile(
        name="evals", path="agent/NAME/evals/*.yaml", what="scenarios on which an agent is evaluated", model=ScenarioRow
    ),
    SettingsFile(name="tool", path="tools/NAME/tool.toml", what="the manifest of a tool"),
    SettingsFile(name="tool-cases", path="tools/NAME/cases.yaml", what="examples of a tool", model=ToolCase),
    SettingsFile(name="cases", path="policies/cases.yaml", what="decisions that the rules must give", model=Case),
    SettingsFile(
        name="limits", path="policies/limits.toml", what="limits that all runs share", model=SharedLimitsTable
    ),
    SettingsFile(name="prices", path="policies/prices.toml", what="what turns of each model cost", model=PricesTable),
    SettingsFile(name="labels", path="policies/labels.toml", what="labels by resource", model=LabelsTable),
    SettingsFile(
        name="team", path="policies/TEAM/team.toml", what="what the rules of a team may name", model=TeamTable
    ),
    SettingsFile(name="content", path="policies/content.toml", what="content rules", model=ContentTable),
    SettingsFile(
        name="content-cases",
        path="policies/content_cases.yaml",
        what="texts that content rules must pass, block or redact",
        model=ContentCase,
    ),
    SettingsFile(
        name="scope", path="scope.toml", what="the scope of one run: `remit run --scope FILE`", model=ScopeTable
    ),
)


def schema_of(file: SettingsFile) -> Schema:
    """The JSON Schema of one kind of file."""
    if file.name == "tool":
        schema = manifest_schema()
        assert isinstance(schema, dict)
        return schema
    if file.model is None:
        return _script_schema()
    inner = file.model.model_json_schema()
    inner["properties"].pop("line", None)  # the reader fills it in
    _describe(inner)
    if not file.rows:
        return {"$schema": DIALECT, **inner}
    return {"$schema": DIALECT, **_defined(inner), "type": "array", "items": {"$ref": "#/$defs/Row"}}


def published() -> dict[str, Schema]:
    """Every published schema, by file name."""
    result: Schema = TypeAdapter[Any](Result).json_schema()
    return {**{f"{file.name}.schema.json": schema_of(file) for file in FILES}, "result.schema.json": result}


def place(name: str) -> Path:
    """Where the workspace has the schema of that file name."""
    return ROOT / ("tools" if name in ("tool.schema.json", "result.schema.json") else ".remit/schemas") / name


def text_of(schema: Schema) -> str:
    """The schema as its file has it."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def facts() -> Mapping[str, tuple[str, str]]:
    """The meaning and the type of each fact of a condition, from the glossary."""
    section = (ROOT / "docs" / "glossary.md").read_text("utf-8").split("## Facts of conditions")[1].split("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.+) \| (\w+) \|$", section, re.MULTILINE)
    return {name: (meaning, kind) for name, meaning, kind in rows}


def _describe(schema: Schema) -> None:
    """Add the meaning of facts to the keys of a case that are named after them."""
    meanings = facts()
    for name, key in schema["properties"].items():
        if "description" not in key and name in meanings:
            key["description"] = re.sub(r": `[^`]+`$", "", meanings[name][0])


def _defined(inner: Schema) -> Schema:
    return {"$defs": {**inner.pop("$defs", {}), "Row": inner}}


def _script_schema() -> Schema:
    approval = ScriptedApproval.model_json_schema()
    call = {
        "description": "TOOL__ACTION with its arguments: a mapping, or the raw text that the model is to write",
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": {"type": ["object", "string"]},
    }
    turn = {
        "description": "One turn of the model.",
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "say": {"type": "string", "default": "", "description": "The text of the turn"},
            "calls": {"type": "array", "items": call, "default": [], "description": "The calls that it proposes"},
            "finish": {"enum": list(FINISHES), "description": "Why it ended; absent: tool_calls with calls, else stop"},
        },
    }
    return {
        "$schema": DIALECT,
        "$defs": {"Turn": turn, "Approval": approval},
        "title": "Script",
        "description": "A scripted model. Step n gets turn n, whatever the conversation is.",
        "type": "object",
        "additionalProperties": False,
        "required": ["turns"],
        "properties": {
            "turns": {"type": "array", "items": {"$ref": "#/$defs/Turn"}, "description": "One item for each turn"},
            "approvals": {
                "type": "array",
                "items": {"$ref": "#/$defs/Approval"},
                "default": [],
                "description": "Approvals that the script gives in place of people, for demonstrations",
            },
        },
    }


def main() -> None:
    """Write every schema of the workspace again."""
    for name, schema in published().items():
        place(name).parent.mkdir(exist_ok=True)
        place(name).write_text(text_of(schema), encoding="utf-8")


if __name__ == "__main__":
    main()
