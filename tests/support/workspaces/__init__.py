"""Workspaces that tests write and run: one tool of this process, LangChain's tools, a mailbox, and the web."""
