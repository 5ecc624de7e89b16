"""An agent of LangChain with the tools of `/mcp/AGENT`, by langchain-mcp-adapters, and with a model that follows a script.

python langchain_agent.py URL CALLS, where CALLS is JSON: a list of [name, arguments, seconds before the call]. Prints the results as JSON. It runs in an
environment of its own: see `tests/server/mcp/frameworks.py`.
"""

import asyncio
import json
import sys
import time

from langchain.agents import create_agent
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_mcp_adapters.client import MultiServerMCPClient


class Scripted(GenericFakeChatModel):
    def bind_tools(self, tools, **_):
        return self


def turns(calls):
    for number, (name, arguments, seconds) in enumerate(calls):
        time.sleep(seconds)
        yield AIMessage("", tool_calls=[{"name": name, "args": arguments, "id": str(number)}])
    yield AIMessage("done")


async def main(url, calls):
    server = {"transport": "streamable_http", "url": url, "headers": {"Authorization": "Bearer operator"}}
    tools = await MultiServerMCPClient({"remit": server}).get_tools()
    for tool in tools:
        tool.handle_tool_error = True  # the model reads a refusal, and goes on
    agent = create_agent(Scripted(messages=turns(calls)), tools)
    state = await agent.ainvoke({"messages": [("user", "look into it")]})
    texts = [item.content for item in state["messages"] if isinstance(item, ToolMessage)]
    print(json.dumps([text if isinstance(text, str) else text[0]["text"] for text in texts]))


asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
