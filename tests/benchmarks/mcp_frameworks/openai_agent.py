"""An agent of the OpenAI Agents SDK with the tools of `/mcp/AGENT`, and with a model that follows a script.

python openai_agent.py URL CALLS, where CALLS is JSON: a list of [name, arguments, seconds before the call]. Prints the results as JSON. It runs in an
environment of its own: see `tests/server/mcp/frameworks.py`.
"""

import asyncio
import json
import sys

from agents import Agent, Model, ModelResponse, Runner, Usage, set_tracing_disabled
from agents.mcp import MCPServerStreamableHttp
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText


class Scripted(Model):
    def __init__(self, calls):
        self._calls = list(calls)

    async def get_response(self, *_, **__):
        if not self._calls:
            text = ResponseOutputText(text="done", type="output_text", annotations=[])
            message = ResponseOutputMessage(
                id="m", content=[text], role="assistant", status="completed", type="message"
            )
            return ModelResponse(output=[message], usage=Usage(), response_id=None)
        name, arguments, seconds = self._calls.pop(0)
        await asyncio.sleep(seconds)
        call = ResponseFunctionToolCall(
            name=name, arguments=json.dumps(arguments), call_id=f"c{len(self._calls)}", type="function_call"
        )
        return ModelResponse(output=[call], usage=Usage(), response_id=None)

    def stream_response(self, *_, **__):
        raise NotImplementedError


def text_of(output):
    found = json.loads(output) if isinstance(output, str) else output
    return found["text"] if isinstance(found, dict) and "text" in found else output


async def main(url, calls):
    set_tracing_disabled(True)
    params = {"url": url, "headers": {"Authorization": "Bearer operator"}}
    async with MCPServerStreamableHttp(params=params, client_session_timeout_seconds=60) as server:
        agent = Agent(name="triage", model=Scripted(calls), mcp_servers=[server])
        result = await Runner.run(agent, "look into it")
    outputs = [item.output for item in result.new_items if item.type == "tool_call_output_item"]
    print(json.dumps([text_of(output) for output in outputs]))


asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
