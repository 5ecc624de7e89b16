"""`remit hook run`: passes an event of a coding agent to the service, and its answer back. Only the standard library: it has to be fast.

INVARIANT: whatever fails before the answer of the service is known, the call does not run. Claude Code and Codex block a call when the hook
exits with 2, and let it pass at every other exit code.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn, cast

from remit.cli.local.peers import NotTrusted
from remit.cli.local.requesting import NotAnswered, error_text, posted

BLOCKS: Final = 2
CLIENTS: Final = ("claude-code", "codex")
DEADLINE_S: Final = 70  # of the whole hook: the service answers within a minute
MARKER: Final = "remit.toml"
LARGEST: Final = 32 << 20  # bytes of an event
LARGEST_SENT: Final = 200_000  # of a request; the result of a call is cut to that
# The events after which nothing runs that a refusal could stop; with 2, `Stop` would make the coding agent go on.
_LATER: Final = ("Stop", "SessionEnd", "SessionStart")
_RESULTS: Final = ("PostToolUse", "PostToolUseFailure")


class Refused(Exception):
    """The event has no answer of the service."""


def run_hook(words: Sequence[str]) -> int:
    """The exit code of the hook. It prints the answer, or why there is none."""
    name = ""
    try:
        signal.signal(signal.SIGALRM, _too_late)
        signal.alarm(DEADLINE_S)
        options = _options(words)
        event = _event()
        name = str(event.get("hook_event_name", ""))
        answer = _answer(options, event)
        if answer:
            sys.stdout.write(json.dumps(answer))
            sys.stdout.flush()
        return 0
    except BaseException as failure:  # noqa: BLE001 - INVARIANT: any failure blocks
        why = (
            str(failure)
            if isinstance(failure, Refused | NotAnswered | NotTrusted)
            else f"{type(failure).__name__}: {failure}"
        )
        sys.stderr.write(f"Remit did not decide, so the call does not run: {why[:500]}\n")
        return 1 if name in _LATER else BLOCKS


def _too_late(_number: int, _frame: object) -> NoReturn:
    raise Refused(f"the service did not answer within {DEADLINE_S} s")


def _options(words: Sequence[str]) -> dict[str, str]:
    """The coding agent and the options of the command. Raises Refused for anything else."""
    if not words or words[0] not in CLIENTS or len(words) % 2 == 0:
        raise Refused(f"write `remit hook run {'|'.join(CLIENTS)}`, with --workspace, --project and --wait")
    found = {"client": words[0]}
    for option, value in zip(words[1::2], words[2::2], strict=True):
        if option not in ("--workspace", "--project", "--wait"):
            raise Refused(f"there is no option {option!r}")
        found[option[2:]] = value
    return found


def _event() -> dict[str, Any]:
    data = sys.stdin.buffer.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise Refused(f"the event has more than {LARGEST} bytes")
    value: object = json.loads(data)
    if not isinstance(value, dict):
        raise Refused("the event is no JSON object")
    return cast("dict[str, Any]", value)


def _answer(options: Mapping[str, str], event: dict[str, Any]) -> dict[str, Any]:
    project = options.get("project") or os.environ.get("CLAUDE_PROJECT_DIR") or ""
    root = _workspace(options.get("workspace", ""), project)
    path = f"/hooks/{options['client']}"
    event["project"] = project or str(root)
    if "wait" in options:
        event["wait"] = float(options["wait"])
    is_result = event.get("hook_event_name") in _RESULTS
    if is_result and event.get("tool_use_id"):
        event.pop("tool_input", None)
    status, answer = posted(root, path, _cut(event) if is_result else event)
    if status != 200 and is_result:  # the call has run: that is recorded, if not what it returned
        status, answer = posted(root, path, {**event, "tool_response": {"unreadable": True}, "tool_input": {}})
    if status != 200:
        raise Refused(error_text(answer, status))
    if event.get("hook_event_name") == "PreToolUse":
        _check_decision(answer)
    return answer


def _check_decision(answer: Mapping[str, Any]) -> None:
    """Raise Refused unless the answer is a decision, or empty: then the coding agent decides as it does without Remit."""
    if not answer:
        return
    given = answer.get("hookSpecificOutput")
    decision = cast("dict[str, Any]", given).get("permissionDecision") if isinstance(given, dict) else None
    if decision not in ("allow", "deny"):
        raise Refused("the answer of the service is no decision")


def _cut(event: dict[str, Any]) -> dict[str, Any]:
    """The event with a result that a request can hold."""
    text = json.dumps(event.get("tool_response"))
    if len(text) < LARGEST_SENT:
        return event
    return {**event, "tool_response": {"cut": text[: LARGEST_SENT // 4], "characters": len(text)}}


def _workspace(given: str, project: str) -> Path:
    begin = Path(given or project or Path.cwd()).absolute()
    root = next((folder for folder in (begin, *begin.parents) if (folder / MARKER).is_file()), None)
    if root is None:
        raise Refused(f"there is no workspace at {str(begin)!r}: write --workspace into the hook's command")
    return root
