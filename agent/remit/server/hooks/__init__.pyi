from .conversations import HookConversations
from .endpoint import HookEvent, claude_code, codex

__all__ = ["HookConversations", "HookEvent", "claude_code", "codex"]
