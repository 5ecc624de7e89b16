"""Reads the command that a coding agent gives to a shell.

INVARIANT: only a text that every shell reads in the same way counts as read: one program and plain words. Nothing else is interpreted, so
that no rule is about a part of a command whose other part nobody understood.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

LONGEST: Final = 4096  # characters

# A shell expands, redirects or joins nothing that these characters write. Quotes may add spaces and punctuation to a word.
_WORD = r"[A-Za-z0-9_./:=@%+,-]+"
_QUOTED = r"'[A-Za-z0-9 _./:=@%+,;()#&<>?-]*'|\"[A-Za-z0-9 _./:=@%+,;()#&<>?-]*\""
_PART: Final = re.compile(rf"(?:{_WORD}|{_QUOTED})+")
_TEXT: Final = re.compile(rf"(?:{_PART.pattern})(?: +(?:{_PART.pattern}))*")
_PROGRAM: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
# Words that a shell reads itself, or by which a program starts another one: what runs is not the first word.
_OF_SHELL: Final = frozenset(
    [
        "if",
        "then",
        "else",
        "elif",
        "fi",
        "for",
        "while",
        "until",
        "do",
        "done",
        "case",
        "esac",
        "function",
        "select",
        "time",
        "coproc",
        "in",
        "exec",
        "eval",
        "source",
        "command",
        "builtin",
        "alias",
        "env",
        "sudo",
        "su",
        "doas",
        "nohup",
        "nice",
        "timeout",
        "xargs",
        "watch",
        "setsid",
        "sh",
        "bash",
        "dash",
        "zsh",
        "ksh",
        "fish",
        "busybox",
    ]
)


@dataclass(frozen=True, kw_only=True)
class PlainCommand:
    """One program and its words. `verb` is the first word if it is a plain name, as `push` of `git push`; "" without one."""

    program: str
    verb: str
    words: tuple[str, ...]


def plain_command(text: str) -> PlainCommand | None:
    """The command as one program with plain words; None if a shell may read it in another way."""
    if len(text) > LONGEST or _TEXT.fullmatch(text) is None:
        return None
    program, *words = (_unquoted(part) for part in _PART.findall(text))
    if _PROGRAM.fullmatch(program) is None or program in _OF_SHELL or any("://" in word for word in words):
        return None
    verb = words[0] if words and _PROGRAM.fullmatch(words[0]) else ""
    return PlainCommand(program=program, verb=verb, words=tuple(words))


def _unquoted(part: str) -> str:
    return part.replace("'", "").replace('"', "")
