"""The catalogue of texts that a model reads: every refusal and failure that the code makes, collected from its source.

.venv/bin/python tests/support/model_messages.py --write     writes docs/model-messages.md
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, get_args

from remit.core.errors import NEXT_STEPS, ModelCode

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run by path, it finds what the tests share

from support.source_texts import called_name, literals, parsed

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGE: Final = ROOT / "agent" / "remit"
PAGE: Final = ROOT / "docs" / "model-messages.md"
MODEL_CODES: Final = frozenset(get_args(ModelCode))
# Functions that make a refusal of one code from a text.
MAKERS: Final = frozenset({"_refuse", "_refusal", "_not_one", "_not_json", "_unfit", "_mismatched"})
# Functions whose results are the text of a denial.
DENIALS: Final = {"policy/explanation.py": frozenset({"_denied", "_not_allowed", "_unreachable"})}

HEAD: Final = """# Texts that a model reads

Every refusal and failure that Remit itself writes, with the code that emits it. `…` is filled in. A text without a next step of its own
has the step of its code. Written from the source by `tests/support/model_messages.py --write`; a test compares it.

"""


@dataclass(frozen=True, kw_only=True, order=True)
class Text:
    """One text. `next_step` is "" where it has none of its own; `where` is the file and the function that make it."""

    code: str
    message: str
    next_step: str
    where: str


@cache
def collect() -> tuple[Text, ...]:
    """Every text, sorted by code."""
    found: set[Text] = set()
    for path in sorted(PACKAGE.rglob("*.py")):
        name = path.relative_to(PACKAGE).as_posix()
        tree = parsed(path)
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                found.update(_texts(function, f"{name}: {function.name}", name))
    return tuple(sorted(found))


def _texts(function: ast.FunctionDef | ast.AsyncFunctionDef, where: str, file: str) -> Iterator[Text]:
    for node in _own_nodes(function):
        if isinstance(node, ast.Call):
            yield from _of_call(node, where)
        elif isinstance(node, ast.Return) and function.name in DENIALS.get(file, ()) and node.value is not None:
            for text in literals(node.value):
                yield Text(code="policy_denied", message=text, next_step="", where=where)


def _own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a function without those of the functions in it."""
    for child in ast.iter_child_nodes(function):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
            yield from _own_nodes(child)


def _of_call(node: ast.Call, where: str) -> Iterator[Text]:
    name = called_name(node)
    keywords = {item.arg: item.value for item in node.keywords}
    code = node.args[0] if node.args and name == "Refusal" else keywords.get("code")
    message = node.args[1] if len(node.args) > 1 and name == "Refusal" else keywords.get("message")
    if name in MAKERS and node.args:
        code, message = ast.Constant("invalid_arguments"), node.args[-1]
    if not isinstance(code, ast.Constant) or code.value not in MODEL_CODES or message is None:
        return
    # What a parser says of a text follows the text, or the name of the argument that holds it.
    prefix = "…: " if name in MAKERS else ""
    steps = list(literals(keywords["next_step"])) if "next_step" in keywords else [""]
    for text in literals(message):
        yield Text(code=str(code.value), message=prefix + text, next_step=" / ".join(steps), where=where)


def page(texts: Sequence[Text]) -> str:
    """The catalogue as Markdown, a table for each code."""
    lines = [HEAD.rstrip()]
    for code in get_args(ModelCode):
        rows = [text for text in texts if text.code == code]
        if rows:
            lines += [
                "",
                f"## {code}",
                "",
                f"Next step: {NEXT_STEPS[code]}.",
                "",
                "| text | next step of its own | made by |",
                "|---|---|---|",
            ]
            lines += [f"| {_cell(row.message)} | {_cell(row.next_step)} | `{row.where}` |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


if __name__ == "__main__":
    if "--write" in sys.argv:
        PAGE.write_text(page(collect()), "utf-8")
    else:
        print(page(collect()), end="")
