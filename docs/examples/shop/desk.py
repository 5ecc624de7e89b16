"""An agent of LangChain whose calls are decided, recorded and done at most once by Remit."""

# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false
# (LangChain leaves some of its own types open.)

from langchain.agents import create_agent
from langchain_core.messages import AIMessage, HumanMessage
from script import Script
from shop import TOOLS

from remit.langchain import RemitMiddleware

model = Script(turns=[("refund", {"order": "17", "amount": 40}), ("refund", {"order": "17", "amount": 400})])
agent = create_agent(model, TOOLS, middleware=[RemitMiddleware("desk")])

state = agent.invoke({"messages": [HumanMessage("Refund order 17")]})
for message in state["messages"]:
    if not isinstance(message, AIMessage):
        print(message.text)
