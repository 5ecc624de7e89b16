"""The command line: one module per command, imported when the command is called, so that `--help` is fast.

commands  the command `remit`, and how one command is executed in this process
local     commands that a running service executes

Exit codes: 0 success; 1 a refusal, a failed run or a failed check; 2 a usage or workspace error; 130 interrupted.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:  # a command that a service executes loads no library
    from remit.cli.commands import remit as remit
    from remit.cli.commands import run_command as run_command

# command → its module and its line in the help. The function is `<command>_command`; in a sub-package it is named after
# its module, because other sub-packages have a command of the same name.
COMMANDS: Final = {
    "demo": ("demo", "play an incident at once, with you as the on-call lead"),
    "init": ("workspace", "write a starter workspace: tools, policies, an example agent"),
    "doctor": ("workspace", "test the sandbox on this machine with real escape attempts, or a model"),
    "check": ("check", "check the whole workspace: manifests, code, agents, policies, pins, cases"),
    "upgrade": ("check.upgrade", "say what this version would refuse of a workspace: files, journal, traces"),
    "run": ("run", "run an agent on a task"),
    "call": ("run", "make one tool call as an agent, with policy and sandbox"),
    "stop": ("hold", "hold a run, an agent, a tool, or everything"),
    "start": ("hold", "lift a hold"),
    "principal": ("access.principal", "disable people and services, and enable them again"),
    "key": ("access.key", "create, list and revoke API keys of services"),
    "answer": ("access.answer", "answer what an MCP server asks in the middle of a call"),
    "settle": ("settle", "record the outcome of a call whose outcome is unknown"),
    "tool": ("tool", "write, try, test and pin tools"),
    "agent": ("agent", "write a new agent"),
    "secret": ("secret", "set and list the secrets that tools use"),
    "policy": ("policy", "check, test, explain, compare and replay the rules"),
    "allow": ("policy.allow", "print or write the change that would let a refused call pass"),
    "attack": ("policy.attack", "try what an untrusted text could make an agent do"),
    "approve": ("approve", "list, show and answer requests for approval"),
    "trace": ("trace", "read, compare, shrink, verify and export recorded runs"),
    "journal": ("journal", "check the journal's projections, and compute them again"),
    "drift": ("monitoring.drift", "say which measures of an agent changed, and what fits the change"),
    "targets": ("monitoring.targets", "compare times and costs of runs with their targets"),
    "alert": ("monitoring.alert", "list and close alerts of drift and of targets"),
    "report": ("monitoring.report", "what an observed agent did, and which rules it lacks"),
    "serve": ("service.serve", "answer requests of programs and people over HTTP"),
    "remote": ("service.remote", "make calls and answer requests at a service on another machine"),
    "worker": ("service.worker", "drive the runs that wait in the queue"),
    "enqueue": ("service.enqueue", "start a run that a worker drives"),
    "hook": ("hook", "put the tools of a coding agent under Remit"),
    "metrics": ("monitoring.metrics", "the state of the workspace as metrics, for alerts"),
    "notify": ("monitoring.notify", "notify people of what waits for them: chat, mail, webhook"),
    "audit": ("monitoring.audit", "send decisions, approvals and acts of operators as audit records"),
    "replay": ("replay", "replay a recorded run without effects"),
    "eval": ("eval", "evaluate an agent on its scenarios"),
    "search": ("search", "search and ingest collections of documents"),
    "prices": ("prices", "write the prices of models, from which money is counted"),
    "rollout": ("rollout", "let a change of an agent take effect step by step, and take it back"),
    "diff": ("policy.permission_diff", "show what agents may do now that they could not do at a git revision"),
}


def main(args: list[str] | None = None) -> None:
    """Run one command: by a service of this workspace on this machine, or in this process. Sets the exit code."""
    words = sys.argv[1:] if args is None else args
    if words[:2] == ["hook", "run"] and "--help" not in words:  # a coding agent waits for it before each call
        from remit.cli.local.hooking import run_hook

        sys.exit(run_hook(words[2:]))
    from remit.cli.local.forwarded import command_of

    if command_of(words):
        from remit.cli.local.asking import answered_by_service

        try:
            code = answered_by_service(words)
        except KeyboardInterrupt:
            from remit.cli.commands import interrupted

            interrupted()
        if code is not None:
            sys.exit(code)
    from remit.cli.commands import run_command

    run_command(args)


def __getattr__(name: str) -> Any:
    if name in ("remit", "run_command"):
        from remit.cli import commands

        return getattr(commands, name)
    raise AttributeError(name)
