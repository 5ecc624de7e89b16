"""Workspaces that tests write and run: a ledger in this process, tools of LangChain, a mailbox, and web tools."""
