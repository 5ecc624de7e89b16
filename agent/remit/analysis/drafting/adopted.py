"""Drafts the files that put functions or LangChain tools of a program under Remit: manifest, cases, host_tools, and an agent."""

from __future__ import annotations

from dataclasses import dataclass

from remit.analysis.drafting.agents import agent_files
from remit.analysis.drafting.changes import FileChange, diff_of
from remit.analysis.drafting.toml_edit import with_item
from remit.broker import describe_function, host_functions
from remit.core import UsageError
from remit.tools.making import check_name, host_files
from remit.workspace import MARKER, Workspace


@dataclass(frozen=True, kw_only=True)
class Adoption:
    """The files as they would be. `open`: how many lines of the manifest a person has to decide before the tool loads.

    `left_out`: functions that cannot be actions, each with the reason.
    """

    changes: tuple[FileChange, ...]
    open: int
    left_out: tuple[str, ...]

    @property
    def diff(self) -> str:
        """A unified diff of the files."""
        return diff_of(self.changes)


def adopt_tools(workspace: Workspace, entry: str, name: str, *, agent: str = "", strict: bool = False) -> Adoption:
    """The files for the functions at an entry point `module:functions`, as the tool `name`, and for an `agent` that has it.

    Its module is imported in this process: a host tool is code that the workspace trusts. With `strict`, each action is one that cannot
    be undone on the whole service, so nothing is left to decide.

    Raises:
        UsageError: the entry point cannot be loaded, none of its functions can be an action, or a name is taken.
    """
    assert workspace.root is not None
    check_name(workspace.root, name)
    described = {
        action: describe_function(function) for action, function in host_functions(entry, workspace.root).items()
    }
    made = host_files(name, entry, described, strict=strict)
    if len(made.left_out) == len(described):
        reasons = "".join(f"\n    {line}" for line in made.left_out)
        raise UsageError(f"{entry!r} has no function that can be an action{reasons}")
    texts = {f"tools/{name}/{file}": text for file, text in made.texts.items()}
    if agent:
        texts |= agent_files(workspace, agent, (name,), host=True)
    marker = workspace.files[MARKER].decode()
    return Adoption(
        changes=(
            *(FileChange(file=file, before="", after=text) for file, text in texts.items()),
            FileChange(
                file=MARKER, before=marker, after=with_item(marker, ("host_tools",), name, file=MARKER, below="env")
            ),
        ),
        open=made.open,
        left_out=made.left_out,
    )
