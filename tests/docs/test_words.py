"""The texts of this project use common words and short sentences: no word of `words.toml`, no long sentence in a message.

.venv/bin/python tests/docs/test_words.py [PATH ...]     lists what is found below these paths
"""

from __future__ import annotations

import ast
import fnmatch
import io
import re
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # run by path, it finds what the tests share

from support.source_texts import called_name, literals, parsed

ROOT: Final = Path(__file__).resolve().parents[2]
LIST: Final[dict[str, Any]] = tomllib.loads((Path(__file__).parent / "words.toml").read_text("utf-8"))
WORDS_IN_A_SENTENCE: Final = 20
# What a person or a model reads: the calls whose texts are messages, and the arguments of any call that are.
MESSAGES: Final = frozenset(
    {
        "Refusal",
        "UsageError",
        "Problem",
        "RunEnded",
        "ModelError",
        "Error",
        "BadParameter",
        "ConditionError",
        "GlobError",
    }
)
TEXTS: Final = frozenset({"help", "fix", "next_step", "what", "message", "reason"})


def tracked(*below: str) -> list[Path]:
    """Every text file that git knows, but those that the list leaves out."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--", *below], cwd=ROOT, capture_output=True, check=True, text=True
    ).stdout.split("\0")
    kept = [name for name in names if name and not any(fnmatch.fnmatch(name, skip) for skip in LIST["scan"]["skip"])]
    return [ROOT / name for name in kept if (ROOT / name).is_file()]


def pattern_of(words: str) -> re.Pattern[str]:
    """Letters end a word, and underscores and digits do not, so that the parts of an identifier are words too."""
    return re.compile(rf"(?<![A-Za-z])(?:{words})(?![A-Za-z])", re.IGNORECASE)


EVERYWHERE: Final = [(pattern_of(row["pattern"]), row["instead"]) for row in LIST["word"] if not row.get("names")]
IN_NAMES: Final = [(pattern_of(row["pattern"]), row["instead"]) for row in LIST["word"] if row.get("names")]
# What any pattern of the list finds. Most files have none of it, and are searched once.
ANY: Final = pattern_of("|".join(row["pattern"] for row in LIST["word"] if not row.get("names")))
ANY_NAME: Final = pattern_of("|".join(row["pattern"] for row in LIST["word"] if row.get("names")))


def words_found(path: Path) -> Iterator[str]:
    """Each line that holds a word of the list, with what to write instead."""
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError:
        return
    name = path.relative_to(ROOT).as_posix()
    if ANY.search(text):
        for number, line in enumerate(text.splitlines(), 1):
            yield from _found(name, number, line, line, EVERYWHERE)
    if path.suffix == ".py" and ANY_NAME.search(text):
        lines = text.splitlines()
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.NAME:
                yield from _found(name, token.start[0], token.string, lines[token.start[0] - 1], IN_NAMES)


def _found(name: str, number: int, text: str, line: str, words: list[tuple[re.Pattern[str], str]]) -> Iterator[str]:
    for pattern, instead in words:
        for match in pattern.finditer(text):
            allowed = any(
                fnmatch.fnmatch(name, row["path"]) and row["text"] in line for row in LIST.get("exception", [])
            )
            if not allowed:
                yield f"{name}:{number}: {match[0]!r}; write {instead}: {line.strip()[:100]}"


def messages(path: Path) -> Iterator[tuple[int, str]]:
    """Every text of a message in a file: its line, and its words with `…` for what is filled in."""
    for node in ast.walk(parsed(path)):
        if not isinstance(node, ast.Call):
            continue
        called = called_name(node)
        texts: list[ast.expr] = [item.value for item in node.keywords if item.arg in TEXTS]
        if called in MESSAGES:
            texts += node.args
        for item in texts:
            yield from ((item.lineno, text) for text in literals(item))


def long_sentences(path: Path) -> Iterator[str]:
    for number, text in messages(path):
        for sentence in re.split(r"[.;:!?]\s|\n", text):
            if len(sentence.split()) > WORDS_IN_A_SENTENCE:
                yield f"{path.relative_to(ROOT)}:{number}: {len(sentence.split())} words in one sentence: {sentence.strip()[:120]}"


def code() -> list[Path]:
    return [path for path in tracked("agent/remit", "tools") if path.suffix == ".py"]


def test_no_text_uses_a_word_of_the_list() -> None:
    found = [line for path in tracked() for line in words_found(path)]
    assert not found, "\n".join(found)


def test_no_message_has_a_long_sentence() -> None:
    found = [line for path in code() for line in long_sentences(path)]
    assert not found, "\n".join(found)


def test_the_list_finds_a_word_in_prose_and_in_a_name() -> None:
    """The check can fail: each word of the list is found where it stands, whole or as part of an identifier."""
    assert [instead for pattern, instead in EVERYWHERE if pattern.search("def open_house() -> None:")]
    assert not [
        instead
        for pattern, instead in EVERYWHERE
        if pattern.search("the household keeps chambers and carries out work")
    ]
    assert [instead for pattern, instead in IN_NAMES if pattern.search("as_said")]


def test_each_exception_is_needed_and_has_a_reason() -> None:
    for row in LIST.get("exception", []):
        assert len(row["reason"]) > 10
        assert any(
            row["text"] in path.read_text("utf-8")
            for path in tracked()
            if fnmatch.fnmatch(path.relative_to(ROOT).as_posix(), row["path"])
        )


if __name__ == "__main__":
    paths = tracked(*sys.argv[1:])
    rows = [line for path in paths for line in words_found(path)]
    rows += [line for path in paths if path.suffix == ".py" for line in long_sentences(path)]
    print("\n".join(rows))
    print(f"{len(rows)} found", file=sys.stderr)
