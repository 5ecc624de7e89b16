"""`policies/labels.toml`: labels of results by the files, hosts and other resources that the call read.

A label is about integrity ("untrusted": others may have written it) or confidentiality ("private"). The manifest of a tool
declares the labels of every result of an action; the labels of this file are added to these.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final

from pydantic import Field

from remit.core import FrozenModel, Json, Problem, ResourceAccess, WorkspaceError
from remit.core.parsing import SCHEMES, Label, Matching, Summary, TomlTable, covered, load_toml, read_table, toml_line
from remit.sandbox.egress import parse_host, url_permission
from remit.workspace.manifest import Action, values_at
from remit.workspace.manifest.fields import Pattern
from remit.workspace.manifest.sections import HostLine

LABELS: Final = "policies/labels.toml"

Resource = Annotated[str, Matching(r"[a-z][a-z0-9_]{0,30}:[^\s*]+", "a resource", 'write "table:customers"')]


class LabelTable(TomlTable):
    """Resources and their labels. A call that reads a whole folder gets the labels of every file that may be in it."""

    note: Summary
    labels: Annotated[list[Label], Field(min_length=1)] = Field(
        description='"untrusted", "private", or one of your own'
    )
    files: list[Pattern] = Field(default=[], description='Files of the working folder: "inbox/**"')
    hosts: list[HostLine] = Field(default=[], description='Hosts of URLs: "example.com:443"')
    resources: list[Resource] = Field(default=[], description='Other resources: "table:customers"')


class LabelsTable(TomlTable):
    """The whole file."""

    label: list[LabelTable] = Field(default=[], description="One table for each group of resources")


class LabelRule(FrozenModel):
    """One `[[label]]` table of the file."""

    note: str
    labels: tuple[str, ...]
    files: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()

    def covers(self, touch: ResourceAccess) -> bool:
        """True if this resource of a call has the labels."""
        if touch.resource in self.resources:
            return True
        if touch.kind == "file":
            return covered(self.files, touch.name) or (touch.name.endswith("**") and self._may_contain(touch.name))
        if touch.kind in SCHEMES and self.hosts:
            url = url_permission(touch.resource, ())
            return any(parse_host(line).covers(url.name, url.port) for line in self.hosts)
        return False

    def _may_contain(self, folder: str) -> bool:
        """True if some pattern may match a file below the folder, judged by its segments before the first wildcard."""
        inside = folder.split("/")[:-1]
        for pattern in self.files:
            plain: list[str] = []
            for part in pattern.split("/"):
                if "*" in part:
                    break
                plain.append(part)
            if all(part == segment for part, segment in zip(plain, inside, strict=False)):
                return True
        return False


def read_labels(text: str) -> tuple[LabelRule, ...]:
    """The rules of the file.

    Raises:
        WorkspaceError: with every problem of the file, its line and its fix.
    """
    table, problems = read_table(LabelsTable, load_toml(text, file=LABELS), file=LABELS, text=text)
    for number, row in enumerate(table.label if table else ()):
        if not (row.files or row.hosts or row.resources):
            line, what = toml_line(text, "label", str(number)), f"the label {row.note!r} has no resources"
            problems.append(Problem(file=LABELS, line=line, what=what, fix="add files, hosts or resources"))
    if table is None or problems:
        raise WorkspaceError(problems)
    return tuple(
        LabelRule(
            note=row.note,
            labels=tuple(row.labels),
            files=tuple(row.files),
            hosts=tuple(row.hosts),
            resources=tuple(row.resources),
        )
        for row in table.label
    )


def labels_in(action: Action, value: Json) -> tuple[str, ...]:
    """The labels that a result has in it, where the manifest says so.

    INVARIANT: what is no label of that place puts all labels of the place on the run.
    """
    found: dict[str, None] = {}
    for at, labels in action.labels_in_result.items():
        values: list[Json] = values_at(value, at.split("/"))
        known = all(isinstance(each, str) and each in labels for each in values)
        found |= dict.fromkeys(values if known else labels)
    return tuple(found)


def labels_of(rules: Iterable[LabelRule], touches: Iterable[ResourceAccess]) -> tuple[str, ...]:
    """The labels of a result whose call read these resources, each label once."""
    every = tuple(touches)
    return tuple(dict.fromkeys(label for rule in rules if any(map(rule.covers, every)) for label in rule.labels))
