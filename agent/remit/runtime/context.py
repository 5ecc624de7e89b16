"""Records what the model is asked, keeps that below the limit in agent.toml, and sends less if the model refuses a conversation as too long."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

from remit.core import Model, ModelError, ModelTurn, ToolSpec, settings_of
from remit.core.events import ContextReduced, ModelRequested
from remit.journal import Record


def _keep_below_limit(record: Record, step: int, tools: Sequence[ToolSpec]) -> None:
    """Reduce a conversation that is longer than its limit to half of it, so that it is not reduced again at each turn."""
    started = record.state.started
    limit = None if started is None else started.context.limit
    if limit is not None and record.conversation.size(tools) > limit:
        _reduce(record, (step, None), tools, limit // 2, "limit", "")


def record_request(
    record: Record, request: tuple[int, int | None], tools: Sequence[ToolSpec], model: Model, given: str | None
) -> None:
    """Record the request for a turn, unless it is recorded; `request` is the step and the attempt.

    `given` is the digest of what a custom graph sends; None: the model reads the conversation of the run.
    """
    step, attempt = request
    if record.get(f"model.requested/{step}/-/{attempt or '-'}") is not None:
        return
    if given is None:
        _keep_below_limit(record, step, tools)
    requested = ModelRequested(
        step=step,
        attempt=attempt,
        model=model.name,
        settings=settings_of(model),
        input_digest=record.conversation.input_digest(tools) if given is None else given,
    )
    record.append(requested)


async def ask_until_it_fits(
    record: Record,
    request: tuple[int, int | None],
    tools: Sequence[ToolSpec],
    ask: Callable[[], Awaitable[ModelTurn]],
    sanitize: Callable[[str], str],
) -> ModelTurn:
    """Ask the model, and ask it again with half of the conversation each time it refuses one as too long.

    `request` is the step and the attempt of the request.

    Raises:
        ModelError: the request failed, or no shorter conversation is left.
    """
    while True:
        try:
            return await ask()
        except ModelError as failure:
            half = record.conversation.size(tools) // 2
            if not failure.overflow or not _reduce(record, request, tools, half, "overflow", sanitize(str(failure))):
                raise
            await record.commit()


def _reduce(
    record: Record,
    request: tuple[int, int | None],
    tools: Sequence[ToolSpec],
    most: int,
    cause: Literal["limit", "overflow"],
    message: str,
) -> bool:
    """Record that the model reads less from here on. False if the conversation cannot get that short."""
    conversation = record.conversation
    found = conversation.reduction(most, tools)
    if found is None:
        return False
    before, result = found
    reduced = ContextReduced(
        step=request[0],
        attempt=request[1],
        count=record.count("context.reduced") + 1,
        cause=cause,
        before=before,
        result=result,
        input_bytes=conversation.size(tools),
        message=message,
    )
    record.append(reduced)
    return True
