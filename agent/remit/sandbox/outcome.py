"""Classifies how a call ended: one code of the closed set for each ending."""

from __future__ import annotations

import errno
import json
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, cast

from remit.core import (
    Code,
    CodeLine,
    Connection,
    ContentObject,
    DeniedAccess,
    Json,
    LimitName,
    ReachedLimit,
    Refusal,
    ResourceUsage,
    SandboxLimit,
    Undecoded,
    WorkspaceError,
)
from remit.core.parsing import covered, parse_json, read_file
from remit.sandbox.profile import OPEN_FILES, PROCESSES, SCRATCH_BYTES, Profile
from remit.sandbox.scratch import Scratch

LONGEST_MESSAGE: Final = 2_000  # characters of a message that the tool wrote
LONGEST_PAUSE_S: Final = 86_400.0  # the longest `retry_after_s` that a tool may ask for
_MOST_REFUSED: Final = 20
_MOST_FRAMES: Final = 5
_LONGEST_NAME: Final = 200  # characters of the name of a file
_RESOURCES: Final[Mapping[int, SandboxLimit]] = {
    errno.EFBIG: "file_size",
    errno.ENOSPC: "file_space",
    errno.EDQUOT: "file_space",
    errno.EMFILE: "open_files",
    errno.ENFILE: "open_files",
    errno.ENOMEM: "memory",
    errno.EAGAIN: "processes",
}
FLOOD: Final = 16  # prints beyond this many output limits end the call
_WHAT: Final[Mapping[LimitName, str]] = {
    "wall": "of time",
    "cpu": "of processor time",
    "memory": "of memory",
    "output": "in a result, its output limit",
    "prints": "printed",
    "file_size": "in one file",
    "file_space": "in files",
    "open_files": "open files",
    "processes": "threads or processes",
    "sent": "sent over the network",
    "received": "received over the network",
    "requests": "requests over the network",
    "connections": "connections at once",
}
WORK: Final = "/work"  # where tools see their working folder
_FORBIDDEN: Final = (errno.EACCES, errno.EPERM, errno.EROFS, errno.EXDEV)

Stop: TypeAlias = Literal["wall", "flood", "output", "descriptors"]  # why the broker itself ended the process


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How the process of a call ended, as the broker observed it. Times in seconds, sizes in bytes.

    `answer` is the first frame that it sent. `status` is its exit status as its parent reported it; None if there is no
    report: a complete answer at the end of the stream needs none, and a sandbox that died has none. `stop` is why the
    broker ended it. `extra` is True if it sent more than one answer.
    """

    answer: bytes | None
    status: int | None
    stop: Stop | None
    extra: bool
    stderr: bytes
    printed: int
    wall_s: float
    cpu_s: float
    memory_bytes: int


@dataclass(frozen=True, kw_only=True)
class Output:
    """The result of one confined call.

    `code` None: it succeeded, and `value` is not yet checked against the tool's schema.

    `question` is what the tool asks a person before it can answer; None: nothing.
    `error` is the name of the declared error, with code `tool_failed`. `scratch` holds the written files until it is
    committed or discarded; None if the call failed or may not write. `entered` is False if the function was never called,
    so that the call had no effect.
    """

    code: Code | None
    value: Json = None
    error: str | None = None
    message: str = ""
    entered: bool = True
    next_step: str | None = None
    retry_after_s: float | None = None
    stderr: str = ""
    refused: tuple[DeniedAccess, ...] = ()
    spent: ResourceUsage = field(default_factory=ResourceUsage)
    limit: ReachedLimit | None = None
    frames: tuple[CodeLine, ...] = ()
    connections: tuple[Connection, ...] = ()
    objects: tuple[ContentObject, ...] = ()
    question: Json = None
    scratch: Scratch | None = None


@dataclass(frozen=True, kw_only=True)
class GuestAnswer:
    """The answer of the process. It comes from untrusted code: every field is checked before it gets here."""

    value: Json = None
    code: Code | None = None
    error: str | None = None
    message: str = ""
    retry_after_s: float | None = None
    refused: tuple[DeniedAccess, ...] = ()
    limit: ReachedLimit | None = None
    frames: tuple[CodeLine, ...] = ()
    files: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    note: str = ""
    cpu_s: float = 0.0
    memory_bytes: int = 0


def classify_ending(profile: Profile, ending: Ending, *, declared: Mapping[str, str]) -> GuestAnswer:
    """One code for one ending. What the broker observed decides before anything that the process reports about itself.

    The order of the checks is therefore fixed: the broker's own stop, the exit status, a second answer, the first
    answer.
    """
    if ending.stop is not None:
        return _stopped(profile, ending, ending.stop)
    if ending.answer is None or ending.status not in (0, None):
        return _died(profile, ending)
    if ending.extra:
        return GuestAnswer(code="invalid_output", message="the tool answered more than once")
    try:
        frame = _frame(ending.answer)
        return _answered(profile, ending, frame, declared)
    except (Refusal, _InvalidFrame) as failure:
        detail = failure.message if isinstance(failure, Refusal) else str(failure)
        return GuestAnswer(code="invalid_output", message=f"the tool's result cannot be read: {detail}")


def undecoded(profile: Profile, ending: Ending) -> Refusal:
    """The refusal of a call whose process ended or answered before its arguments were decoded."""
    try:
        frame = _frame(ending.answer or b"")
    except (Refusal, _InvalidFrame):
        frame = {}
    if ending.stop is None and frame.get("kind") == "refused":
        return refused_by_validator(_text(frame, "message"), _text(frame, "argument"))
    answer = classify_ending(profile, ending, declared={})
    return not_decoded(answer.code or "invalid_output", answer.message or "the tool answered too early")


def refused_by_validator(message: str, argument: str) -> Refusal:
    """The types of the tool do not accept the arguments. `message` are the words of the tool's author."""
    reason: Undecoded = "refused_by_validator"
    details = {"reason": reason} | ({"argument": argument} if argument else {})
    return Refusal("invalid_arguments", f"the tool does not accept the arguments: {message}", details=details)


def not_decoded(cause: Code, why: str) -> Refusal:
    """The arguments were not decoded, so the function was not called. `cause` is the code of what happened instead."""
    reason: Undecoded = "not_decoded"
    message = f"the arguments could not be decoded: {why}"
    return Refusal("invalid_arguments", message, details={"reason": reason, "cause": cause})


def _limit(profile: Profile, name: SandboxLimit, used: float | None) -> ReachedLimit:
    match name:
        case "wall" | "cpu":
            return ReachedLimit(name=name, most=profile.wall if name == "wall" else profile.cpu, used=used, unit="s")
        case "open_files" | "processes":
            return ReachedLimit(
                name=name, most=OPEN_FILES if name == "open_files" else PROCESSES, used=used, unit="count"
            )
        case "memory":
            most = profile.memory
        case "output":
            most = profile.output
        case "prints":
            most = FLOOD * profile.output
        case "file_size" | "file_space":
            most = SCRATCH_BYTES
    return ReachedLimit(name=name, most=most, used=used, unit="bytes")


def _exhausted(profile: Profile, name: SandboxLimit, used: float | None, **given: Any) -> GuestAnswer:
    """An answer with code `resource_exhausted`; `given` are its other fields."""
    limit = _limit(profile, name, None if used is None else round(used, 3))
    return GuestAnswer(code="resource_exhausted", message=exhausted(limit), limit=limit, **given)


def exhausted(limit: ReachedLimit) -> str:
    """The message for the limit: how much it allows, and how much was used."""
    message = f"the tool used or requested more than {limit.amount(limit.most)} {_WHAT[limit.name]}"
    if limit.used is None:
        return message
    used = limit.amount(limit.used)
    return (
        f"{message}; it used {used}" if limit.used > limit.most else f"{message}; it used {used} when it requested more"
    )


def _stopped(profile: Profile, ending: Ending, stop: Stop) -> GuestAnswer:
    if stop == "wall":
        limit = _limit(profile, "wall", round(ending.wall_s, 3))
        return GuestAnswer(code="timeout", message=f"no result within {profile.wall:g} s", limit=limit)
    if stop == "output":
        return _exhausted(profile, "output", None)
    if stop == "descriptors":
        message = f"the tool returned more than {len(profile.writes)} files, which is how many the call may write"
        return GuestAnswer(code="invalid_output", message=message)
    return _exhausted(profile, "prints", ending.printed)


def _died(profile: Profile, ending: Ending) -> GuestAnswer:
    status = ending.status
    if status is None:
        return GuestAnswer(code="tool_crashed", message="the sandbox ended without a result")
    if status >= 0:
        return GuestAnswer(code="tool_crashed", message=f"the tool exited with status {status} and gave no result")
    # At the soft limit the kernel sends SIGXCPU, at the hard one SIGKILL, which others can send too: there the time
    # decides.
    if -status == signal.SIGXCPU or (-status == signal.SIGKILL and ending.cpu_s >= profile.cpu):
        return _exhausted(profile, "cpu", ending.cpu_s)
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return GuestAnswer(code="tool_crashed", message=f"the tool was ended by {name}")


class _InvalidFrame(Exception):
    """The frame is not one that `onecall` writes."""


def _frame(raw: bytes) -> dict[str, Json]:
    """The envelope: one JSON object. The types of its fields are checked where they are read, the value by its schema."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as failure:
        raise _InvalidFrame("it is not UTF-8") from failure
    frame = parse_json(text)
    if not isinstance(frame, dict):
        raise _InvalidFrame("it is not an answer")
    return cast("dict[str, Json]", frame)


def _answered(profile: Profile, ending: Ending, frame: dict[str, Json], declared: Mapping[str, str]) -> GuestAnswer:
    refused = tuple(
        _denied_access(cast("dict[str, Json]", item))
        for item in _list(frame, "refused")[:_MOST_REFUSED]
        if isinstance(item, dict)
    )
    note = _text(frame, "note")
    match frame.get("kind"):
        case "value":
            value = frame.get("value")
            size = len(ending.answer or b"")
            if size > profile.output:  # this counts the envelope; the value alone may still fit
                size = len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
            if size > profile.output:
                return _exhausted(profile, "output", size)
            files = tuple(name for name in _list(frame, "files") if isinstance(name, str))
            removed = tuple(name for name in _list(frame, "removed") if isinstance(name, str))
            return GuestAnswer(
                value=value,
                refused=refused,
                files=files,
                removed=removed,
                note=note,
                cpu_s=_number(frame, "cpu"),
                memory_bytes=int(_number(frame, "memory")),
            )
        case "error":
            name = _text(frame, "name")
            if name not in declared:
                raise _InvalidFrame("it names an error that the manifest does not declare")
            after = min(_number(frame, "retry_after_s"), LONGEST_PAUSE_S) or None
            return GuestAnswer(
                code="tool_failed",
                error=name,
                message=_text(frame, "message"),
                retry_after_s=after,
                refused=refused,
                frames=_frames(profile, frame),
                note=note,
            )
        case "raised":
            return _raised(profile, ending, frame, refused, note)
        case "oversized":
            return _exhausted(profile, "output", _number(frame, "size") or None, refused=refused, note=note)
        case "invalid":
            return GuestAnswer(code="invalid_output", message=_text(frame, "message"), refused=refused, note=note)
        case _:
            raise _InvalidFrame("it is not an answer")


def _raised(
    profile: Profile, ending: Ending, frame: dict[str, Json], refused: tuple[DeniedAccess, ...], note: str
) -> GuestAnswer:
    number = frame.get("errno")
    name, message = _text(frame, "name"), _text(frame, "message")
    # A failed allocation or a failed start of a thread has no errno in Python, so those are known by their names.
    hit = _RESOURCES.get(number) if isinstance(number, int) else None
    if hit == "processes" and "thread" not in message:  # EAGAIN also means that a read or write would block
        hit = None
    if name == "MemoryError":
        hit = "memory"
    elif name == "RuntimeError" and "start new thread" in message:
        hit = "processes"
    if hit is not None:
        used = (ending.memory_bytes or _number(frame, "memory") or None) if hit == "memory" else None
        return _exhausted(profile, hit, used, refused=refused, note=note)
    # In the sandbox, what was not granted may not exist at all, so a missing file after a refusal counts as one; but not a file that the
    # call may open: it is missing in the working folder too, and the refusal was about something else.
    hidden = number == errno.ENOENT and refused and not _may_open(profile, _text(frame, "filename"))
    if isinstance(number, int) and (number in _FORBIDDEN or hidden):
        what = _text(frame, "filename") or (refused[-1].what if refused else "something that the sandbox refuses")
        return GuestAnswer(
            code="sandbox_violation",
            message=f"the tool tried to access {what!r}, which this call does not grant",
            refused=refused,
            note=note,
        )
    return GuestAnswer(
        code="tool_crashed",
        message=f"{name}: {message}" if message else name,
        refused=refused,
        frames=_frames(profile, frame),
        note=note,
    )


def _may_open(profile: Profile, name: str) -> bool:
    """True if the call was decided for that file of the working folder."""
    inside = name.removeprefix(f"{WORK}/")
    return bool(inside) and covered([*profile.reads, *profile.writes], inside)


def _frames(profile: Profile, frame: Mapping[str, Json]) -> tuple[CodeLine, ...]:
    """The lines of the tool's own files that the exception came through.

    The process reports them, so only those that the files on disk have are believed: no text of the process is repeated.
    """
    files: dict[str, int] = {}
    found: list[CodeLine] = []
    for item in _list(frame, "frames")[:_MOST_FRAMES]:
        match item:
            case [str() as name, int() as line] if len(name) < _LONGEST_NAME and not isinstance(line, bool):
                if name not in files:
                    files[name] = _lines_of(profile.code, name)
                if 0 < line <= files[name]:
                    found.append(CodeLine(file=name, line=line))
            case _:
                pass
    return tuple(found)


def _lines_of(code: Path, name: str) -> int:
    """How many lines a Python file of the tool has; 0 if there is no such file below its folder."""
    path = code / name
    try:
        if not name.endswith(".py") or str(path.resolve(strict=True)) != os.path.join(os.path.realpath(code), name):
            return 0
        return read_file(path, file=name).count(b"\n") + 1
    except (OSError, ValueError, WorkspaceError):
        return 0


def _denied_access(item: dict[str, Json]) -> DeniedAccess:
    access = item.get("access")
    return DeniedAccess(
        access=access if access in ("read", "write", "use") else "use",
        what=_text(item, "what"),
        allow=_text(item, "allow"),
    )


def _text(frame: Mapping[str, Json], key: str) -> str:
    value = frame.get(key)
    return value[:LONGEST_MESSAGE] if isinstance(value, str) else ""


def _number(frame: Mapping[str, Json], key: str) -> float:
    """A number that the process reports about itself. It is only recorded: the kernel enforces the limits."""
    value = frame.get(key)
    return min(float(value), 2.0**53) if isinstance(value, int | float) and value >= 0 else 0.0


def _list(frame: Mapping[str, Json], key: str) -> list[Json]:
    value = frame.get(key)
    return cast("list[object]", value) if isinstance(value, list) else []


def refused(refusal: Refusal) -> Output:
    """The result of a call that was refused before its function was called."""
    return Output(code=refusal.code, message=refusal.message, next_step=refusal.next_step, entered=False)
