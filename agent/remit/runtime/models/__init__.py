"""Model implementations: a scripted model, and the models of providers by name.

    open_model("script:script.yaml")  ─► ScriptedModel         turns and approvals from a file
    open_model("openai:gpt-5")        ─► ChatCompletionsModel  a server with OpenAI's interface, streamed
    open_model("anthropic:claude-…")  ─► LangChainModel        another provider, streamed through its library
    ModelList([…, …])                                          which of several models is asked now

A `ModelTurn` has the arguments of each call as the text that the model streamed. They are parsed later, by the broker.
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
