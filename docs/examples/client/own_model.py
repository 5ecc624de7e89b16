"""A model of your own: it reads the first line of a file, and answers with it."""

import json
from collections.abc import Sequence

from remit import Message, ModelTurn, ProposedCall, Remit, ToolSpec


class FirstLine:
    name = "own:first-line"
    scripted = False

    async def think(self, step: int, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> ModelTurn:
        if step > 0:
            return ModelTurn(text=json.loads(messages[-1].text)["value"]["text"], finish="stop")
        call = ProposedCall(id="1", name="files__read", arguments='{"path": "runbooks/payments-pool.md", "lines": 1}')
        return ModelTurn(text="", proposed_calls=(call,), finish="tool_calls")


with Remit.open("my-agents") as client:
    result = client.run("triage", "What does the runbook say?", model=FirstLine())
    print(result.outcome, "-", result.answer)
