"""One call of a host tool: decode its arguments, then run its function, both in threads of this process."""

from __future__ import annotations

import asyncio
import copy
import json
import time
import traceback
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

from remit.broker.host.content import LARGEST_CONTENT, HostValue
from remit.broker.host.tools import Explained, Hosted
from remit.broker.ports import AttemptOutcome, Question, landed, mismatch_of, result_refusal
from remit.core import (
    Call,
    Code,
    CodeLine,
    ContentObject,
    Json,
    ReachedLimit,
    Refusal,
    ResourceUsage,
    SchemaMismatch,
    in_own_thread,
)
from remit.sandbox import (
    DECODE_SECONDS,
    Refused,
    exhausted,
    gathered,
    message_of,
    not_decoded,
    refused_by_validator,
    retry_after,
    validated,
)
from remit.sandbox import Action as TypedFunction
from remit.workspace import Workspace
from remit.workspace.manifest import Action, ActionSchema, check_output

_MOST_FRAMES: Final = 5  # a recursion has a thousand

Tell: TypeAlias = Callable[[str], object]  # gets what a generator yields, as text
HostCall: TypeAlias = Callable[[Tell], Json]  # a call with its decoded arguments


async def decode_for_host(
    function: Callable[..., Json], arguments: Mapping[str, Json], named: Collection[str], *, wall: float
) -> tuple[HostCall, Mapping[str, Json] | None]:
    """The call of the function with its decoded arguments, and the named ones as JSON; None: all are as given.

    It takes at most `DECODE_SECONDS`, or `wall` seconds if that is less.

    Raises:
        Refusal: `invalid_arguments`: the types of the function do not accept them.
    """
    most = min(wall, DECODE_SECONDS)
    # A copy, so that the tool cannot change the decided arguments for later attempts.
    given = copy.deepcopy(dict(arguments))
    decode = _decode_hosted if isinstance(function, Hosted) else _decode
    try:
        async with asyncio.timeout(most):
            return await in_own_thread(decode, cast("Any", function), given, named)
    except TimeoutError:
        raise not_decoded("timeout", f"no result within {most:g} s") from None
    except Refused as refused:
        raise refused_by_validator(str(refused), refused.argument) from refused


def _decode(
    function: Callable[..., Json], given: dict[str, Json], named: Collection[str]
) -> tuple[HostCall, Mapping[str, Json] | None]:
    try:
        typed = TypedFunction(function)
    except Exception:  # noqa: BLE001 - a function without a readable signature gets its arguments as they are
        return lambda _: function(**given), None
    decoded = typed.decode(given)
    return partial(_call, typed, decoded), typed.as_json(decoded, named)


def _call(typed: TypedFunction, decoded: Any, tell: Tell) -> Json:
    return typed.call(decoded, partial(gathered, tell=tell))


def _decode_hosted(
    function: Hosted, given: dict[str, Json], named: Collection[str]
) -> tuple[HostCall, Mapping[str, Json] | None]:
    """Validate as LangChain will, when the tool is invoked with the same arguments."""
    shown: Mapping[str, Json] | None = None
    if (model := function.model) is not None:
        made = validated(model, lambda: model.model_validate(copy.deepcopy(given)))
        shown = {}
        for name in named:
            with suppress(Exception):
                both = {**made.model_dump(mode="json"), **made.model_dump(mode="json", by_alias=True)}
                shown[name] = both[name]
    return lambda _: function(**given), shown


async def run_function(
    workspace: Workspace, call: Call, function: HostCall, on_print: Callable[[bytes], None] | None = None
) -> AttemptOutcome:
    """Carry out one attempt by a function of this process, in a thread of its own, within the limits of the tool.

    `on_print` gets what a generator yields, in the event loop. The returned value must match the pinned output schema. An
    exception is the declared error of that name, or a crash. Raises `Question`.
    """
    tool, action = workspace.action(call.action)
    started = time.monotonic()
    code: Code | None = None
    limit: ReachedLimit | None = None
    mismatch: SchemaMismatch | None = None
    made, raised, message = _Returned(), _Raised(), ""
    assert tool.pin is not None
    schema, run = tool.pin.schemas[action.name], partial(function, _tell(on_print))
    try:
        async with asyncio.timeout(tool.manifest.limits.wall):
            made = await in_own_thread(_checked_value, run, schema)
        if (limit := made.over(tool.manifest.limits.output)) is not None:
            code, message, made = "resource_exhausted", exhausted(limit), _Returned()
    except Refusal as refusal:
        code = refusal.code
        message = result_refusal(call, refusal) if code == "invalid_output" else refusal.message
        mismatch = mismatch_of(refusal)
    except TimeoutError:
        most = tool.manifest.limits.wall
        code, message = "timeout", f"no result within {most:g} s"
        limit = ReachedLimit(name="wall", most=most, used=round(time.monotonic() - started, 3), unit="s")
    except _RaisedByTool as wrapped:
        raised = _failure_of(action, wrapped.__cause__, workspace.root)
        code, message = raised.code, raised.message
    return AttemptOutcome(
        code=code,
        value=made.value,
        objects=made.objects,
        error=raised.error,
        message=message,
        stderr=raised.text,
        retry_after_s=raised.after,
        landed=landed(call, code),
        spent=ResourceUsage(wall_s=time.monotonic() - started, output_bytes=made.size),
        limit=limit,
        frames=raised.frames,
        mismatch=mismatch,
    )


def _tell(on_print: Callable[[bytes], None] | None) -> Tell:
    """Hands a line to the event loop of the broker, from any thread."""
    if on_print is None:
        return lambda _: None
    loop = asyncio.get_running_loop()
    return lambda text: loop.call_soon_threadsafe(on_print, f"{text}\n".encode(errors="replace"))


@dataclass(frozen=True, kw_only=True)
class _Raised:
    """What the exception of a tool becomes. The model reads `message`; only the record has `text` and `frames`."""

    code: Code | None = None
    error: str | None = None
    message: str = ""
    text: str = ""
    after: float | None = None
    frames: tuple[CodeLine, ...] = ()


def _failure_of(action: Action, failure: BaseException | None, root: Path | None) -> _Raised:
    assert failure is not None
    explained = str(failure) if isinstance(failure, Explained) else ""
    failure = failure.__cause__ or failure if explained else failure
    name, message, after = type(failure).__name__, message_of(failure), retry_after(failure) or None
    error = next((name for name, kind in action.errors.items() if _is_declared(failure, name, kind)), None)
    if error is not None:
        return _Raised(code="tool_failed", error=error, message=explained or message, after=after)
    return _Raised(
        code="tool_crashed",
        message=explained or name,
        after=after,
        text=f"{name}: {message}" if message else name,
        frames=_frames(failure, root),
    )


def _frames(failure: BaseException, root: Path | None) -> tuple[CodeLine, ...]:
    """The lines of files of the workspace that the exception came through."""
    folder = "" if root is None else f"{root}/"
    found = [
        CodeLine(file=frame.f_code.co_filename.removeprefix(folder), line=line)
        for frame, line in traceback.walk_tb(failure.__traceback__)
        if folder and frame.f_code.co_filename.startswith(folder) and "/site-packages/" not in frame.f_code.co_filename
    ]
    return tuple(found[-_MOST_FRAMES:])


class _RaisedByTool(Exception):
    """Wraps an exception of a host tool."""


@dataclass(frozen=True, kw_only=True)
class _Returned:
    """The checked return value of a function, the objects in its blocks, and the size of the rest as JSON in bytes."""

    value: Json = None
    objects: tuple[ContentObject, ...] = ()
    size: int = 0

    def over(self, most: int) -> ReachedLimit | None:
        """The limit that the result exceeds: `most` bytes, and what all images and files of one result may have."""
        content = sum(item.size for item in self.objects)
        over = [(most, self.size)] if self.size > most else [(LARGEST_CONTENT, content)]
        return next(
            (ReachedLimit(name="output", most=limit, used=used, unit="bytes") for limit, used in over if used > limit),
            None,
        )


def _checked_value(function: Callable[[], Json], schema: ActionSchema) -> _Returned:
    """The checked return value of the function.

    Raises:
        Refusal: the graph or the broker refused the call; it is not an error of the tool.
        Question: the function asks a person.
        _RaisedByTool: the tool raised an exception, which is the cause.
    """
    raised, returned = _call_and_catch(function)
    if isinstance(raised, Refusal | Question):
        raise raised
    if raised is not None:
        raise _RaisedByTool from raised
    made = returned if isinstance(returned, HostValue) else HostValue(value=returned)
    check_output(schema, made.value)
    size = len(json.dumps(made.value, ensure_ascii=False, separators=(",", ":")).encode())
    return _Returned(value=made.value, objects=made.objects, size=size)


def _call_and_catch(function: Callable[[], Json]) -> tuple[BaseException | None, Json]:
    """The exception of the function, or its return value. A tool that calls `sys.exit` ends only its own call.

    It runs in a separate thread, which never receives the interrupts of this process. Any KeyboardInterrupt comes from the tool.
    """
    try:
        return None, function()
    except BaseException as failure:  # noqa: BLE001 - any exception of a tool becomes an error code
        return failure, None


def _is_declared(failure: BaseException, name: str, kind: str) -> bool:
    names: set[str] = {base.__name__ for base in type(failure).__mro__}
    return (kind or "".join(part.title() for part in name.split("_"))) in names
