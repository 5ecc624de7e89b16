"""One call of a host tool: decode its arguments, then run its function, both in threads of this process."""

from __future__ import annotations

import asyncio
import copy
import json
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias, cast

from remit.broker.host.tools import Hosted
from remit.broker.ports import AttemptOutcome, Question, landed, mismatch_of, result_refusal
from remit.core import Call, Code, Json, ReachedLimit, Refusal, ResourceUsage, SchemaMismatch, in_own_thread
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
        return await asyncio.wait_for(in_own_thread(decode, cast("Any", function), given, named), most)
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
    error, message, value, after, size = None, "", None, None, 0
    assert tool.pin is not None
    schema, run = tool.pin.schemas[action.name], partial(function, _tell(on_print))
    try:
        value, size = await asyncio.wait_for(in_own_thread(_checked_value, run, schema), tool.manifest.limits.wall)
        if size > tool.manifest.limits.output:
            limit = ReachedLimit(name="output", most=tool.manifest.limits.output, used=size, unit="bytes")
            code, message, value = "resource_exhausted", exhausted(limit), None
    except Refusal as refusal:
        code, value = refusal.code, None
        message = result_refusal(call, refusal) if code == "invalid_output" else refusal.message
        mismatch = mismatch_of(refusal)
    except TimeoutError:
        most = tool.manifest.limits.wall
        code, message = "timeout", f"no result within {most:g} s"
        limit = ReachedLimit(name="wall", most=most, used=round(time.monotonic() - started, 3), unit="s")
    except _RaisedByTool as wrapped:
        code, error, message, after = _failure_of(action, wrapped.__cause__)
    return AttemptOutcome(
        code=code,
        value=value,
        error=error,
        message=message,
        retry_after_s=after,
        landed=landed(call, code),
        spent=ResourceUsage(wall_s=time.monotonic() - started, output_bytes=size if code is None else 0),
        limit=limit,
        mismatch=mismatch,
    )


def _tell(on_print: Callable[[bytes], None] | None) -> Tell:
    """Hands a line to the event loop of the broker, from any thread."""
    if on_print is None:
        return lambda _: None
    loop = asyncio.get_running_loop()
    return lambda text: loop.call_soon_threadsafe(on_print, f"{text}\n".encode(errors="replace"))


def _failure_of(action: Action, failure: BaseException | None) -> tuple[Code, str | None, str, float | None]:
    """The code, the declared error, its message, and the seconds to wait, of an exception that a tool raised."""
    assert failure is not None
    after = retry_after(failure) or None
    error = next((name for name, kind in action.errors.items() if _is_declared(failure, name, kind)), None)
    if error is None:
        return "tool_crashed", None, type(failure).__name__, after
    return "tool_failed", error, message_of(failure), after


class _RaisedByTool(Exception):
    """Wraps an exception of a host tool."""


def _checked_value(function: Callable[[], Json], schema: ActionSchema) -> tuple[Json, int]:
    """The checked return value of the function, and its size in bytes.

    Raises:
        Refusal: the graph or the broker refused the call; it is not an error of the tool.
        Question: the function asks a person.
        _RaisedByTool: the tool raised an exception, which is the cause.
    """
    raised, value = _call_and_catch(function)
    if isinstance(raised, Refusal | Question):
        raise raised
    if raised is not None:
        raise _RaisedByTool from raised
    check_output(schema, value)
    return value, len(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())


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
