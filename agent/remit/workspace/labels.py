"""`policies/labels.toml`: what the reviewer knows of files, hosts and other resources that a result came from.

Labels are of integrity ("untrusted": somebody else wrote it) and of confidentiality ("private"). An action's manifest says
which its results have wherever they come from; these come on top, by what the call touched.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final

from pydantic import Field

from remit.core import FrozenModel, Problem, ResourceAccess, WorkspaceError
from remit.core.parsing import SCHEMES, Label, Matching, Summary, TomlTable, covered, load_toml, read_table, toml_line
from remit.sandbox.egress import parse_host, url_permission
from remit.workspace.manifest.network_schema import HostLine
from remit.workspace.manifest.schema import Pattern

LABELS: Final = "policies/labels.toml"

Resource = Annotated[str, Matching(r"[a-z][a-z0-9_]{0,30}:[^\s*]+", "a resource", 'write "table:customers"')]


class LabelTable(TomlTable):
    """What has these labels. A folder that is read whole has them too, where any of it does."""

    note: Summary
    labels: Annotated[list[Label], Field(min_length=1)]
    files: list[Pattern] = []
    hosts: list[HostLine] = []
    resources: list[Resource] = []


class LabelsTable(TomlTable):
    """The file."""

    label: list[LabelTable] = []


class Labelled(FrozenModel):
    """One table of the file."""

    note: str
    labels: tuple[str, ...]
    files: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()

    def covers(self, touch: ResourceAccess) -> bool:
        """Whether what the call touched there has the labels."""
        if touch.resource in self.resources:
            return True
        if touch.kind == "file":
            return covered(self.files, touch.name) or (touch.name.endswith("**") and self._meets(touch.name))
        if touch.kind in SCHEMES and self.hosts:
            url = url_permission(touch.resource, ())
            return any(parse_host(line).covers(url.name, url.port) for line in self.hosts)
        return False

    def _meets(self, folder: str) -> bool:
        """Whether some pattern may name a file below the folder: by the parts before its first wildcard."""
        inside = folder.split("/")[:-1]
        for pattern in self.files:
            plain: list[str] = []
            for part in pattern.split("/"):
                if "*" in part:
                    break
                plain.append(part)
            if all(one == other for one, other in zip(plain, inside, strict=False)):
                return True
        return False


def read_labels(text: str) -> tuple[Labelled, ...]:
    """The tables of the file.

    Raises:
        WorkspaceError: with every problem, its line and what to write.
    """
    table, problems = read_table(LabelsTable, load_toml(text, file=LABELS), file=LABELS, text=text)
    for number, one in enumerate(table.label if table else ()):
        if not (one.files or one.hosts or one.resources):
            line = toml_line(text, "label", str(number))
            fix = "write files, hosts or resources"
            problems.append(Problem(file=LABELS, line=line, what=f"{one.note!r} labels nothing", fix=fix))
    if table is None or problems:
        raise WorkspaceError(problems)
    return tuple(
        Labelled(
            note=one.note,
            labels=tuple(one.labels),
            files=tuple(one.files),
            hosts=tuple(one.hosts),
            resources=tuple(one.resources),
        )
        for one in table.label
    )


def labels_of(rules: Iterable[Labelled], touches: Iterable[ResourceAccess]) -> tuple[str, ...]:
    """The labels of a result that came from there, each once."""
    every = tuple(touches)
    return tuple(dict.fromkeys(label for rule in rules if any(map(rule.covers, every)) for label in rule.labels))
