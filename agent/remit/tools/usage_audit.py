"""`remit tool observe`: compares what the cases of a tool use with what its manifest grants.

Undeclared: the tool tried to use it, no grant allows it, and the sandbox refused it, as in any run. Unused: the
manifest grants it, and no case used it.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, cast

from remit.core import Json, UsageError
from remit.core.parsing import covered, load_toml, read_table, toml_line
from remit.sandbox import Observed, ObservedAccess, Sandbox
from remit.sandbox.egress import FINAL, parse_host
from remit.tools.workbench import Played, ToolCaseResult, known_tool, play
from remit.workspace import Workspace
from remit.workspace.manifest import NOTHING, Action, Manifest, ManifestTable, Template, Use, grant_text, rules

_REFUSED: Final = "sandbox_violation"  # a case that expects it shows what is refused, so it counts as no use


@dataclass(frozen=True, kw_only=True, order=True)
class Used:
    """One grant of the manifest that a case used."""

    use: Use
    what: str


@dataclass(frozen=True, kw_only=True)
class Undeclared:
    """One use without a grant, in one case. `allow`: the line of a manifest that would grant it."""

    file: str
    line: int
    note: str
    action: str
    use: Use
    what: str
    allow: str


@dataclass(frozen=True, kw_only=True)
class Unused:
    """One grant that no case used. `key`: its key in the manifest. `needed`: the rule that its removal would break, or ""."""

    file: str
    line: int | None
    key: str
    grant: str
    needed: str = ""


@dataclass(frozen=True, kw_only=True)
class UsageReport:
    """What was observed of one tool.

    `played`, `refused`: cases that ran, and cases that were refused before the tool started. `outside`: paths outside
    the workspace that its libraries and programs looked for and did not find. `unjudged`: grants that cannot be
    observed. `smaller`: tables to paste into the manifest; "" if no grant can be removed.
    """

    tool: str
    played: int
    refused: int
    failed: tuple[ToolCaseResult, ...]
    used: tuple[Used, ...]
    undeclared: tuple[Undeclared, ...]
    unused: tuple[Unused, ...]
    outside: tuple[str, ...]
    unjudged: tuple[str, ...]
    smaller: str

    @property
    def ok(self) -> bool:
        return not self.undeclared and not self.failed


async def observe_tool(
    workspace: Workspace, name: str, tell: Callable[[ToolCaseResult], None] | None = None
) -> UsageReport:
    """Run the cases of a tool, each in its own sandbox, and compare what they use with the manifest.

    Raises:
        UsageError: no case starts the tool, or the tool cannot be observed.
        WorkspaceError: the code does not fit the manifest.
        RunEnded: `sandbox_unavailable`.
    """
    manifest = known_tool(workspace, name).manifest
    if manifest.hosted:
        raise UsageError(f"{name!r} is a host tool: it runs in this process and cannot be observed")
    reports: list[Observed] = []
    sandbox = Sandbox(accept=workspace.settings.accept, observed=lambda _, observed: reports.append(observed))
    rows: list[_Row] = []
    async for played in play(workspace, name, sandbox):
        rows.append(_Row(played=played, observed=reports.pop() if reports else Observed()))
        if tell is not None:
            tell(played.result)
    if all(row.played.call is None for row in rows):
        raise UsageError(
            f"no case in tools/{name}/cases.yaml starts tool {name!r}: for each action, write one that is not refused"
        )
    return _Report(workspace, manifest, rows).report()


@dataclass(frozen=True, kw_only=True)
class _Row:
    played: Played
    observed: Observed

    @property
    def action(self) -> str:
        return self.played.case.action.partition(".")[2]

    def did(self, use: Use) -> Iterator[ObservedAccess]:
        return (seen for seen in self.observed.seen if seen.doing == use and seen.decided)


class _Report:
    def __init__(self, workspace: Workspace, manifest: Manifest, rows: list[_Row]) -> None:
        self._manifest = manifest
        self._file = f"tools/{manifest.name}/tool.toml"
        self._text = workspace.files[self._file].decode()
        self._all = rows
        self._rows = [row for row in rows if row.played.call is not None]
        played = {row.action for row in self._rows}
        self._unplayed = [name for name in manifest.actions if name not in played]

    def report(self) -> UsageReport:
        unused, smaller = self._smaller(list(self._unused()))
        shown = [row for row in self._rows if row.played.case.expect.error != _REFUSED]
        outside = dict.fromkeys(seen.what for row in shown for seen in row.observed.seen if _only_looked_for(seen))
        return UsageReport(
            tool=self._manifest.name,
            played=len(self._rows),
            refused=len(self._all) - len(self._rows),
            failed=tuple(row.played.result for row in self._all if not row.played.result.passed),
            used=tuple(sorted(set(self._used()))),
            undeclared=tuple(item for row in shown for item in dict.fromkeys(self._undeclared(row))),
            unused=unused,
            outside=tuple(outside),
            unjudged=tuple(self._unjudged()),
            smaller="" if self._unplayed else smaller,
        )

    # ── what was used ────────────────────────────────────────────────────────────────────────────────────────────────

    def _used(self) -> Iterator[Used]:
        for row in self._rows:
            for seen in row.observed.seen:
                if seen.decided:
                    yield Used(use=seen.doing, what=seen.what)
            for name in (*row.observed.variables, *row.observed.lacking):
                if name in self._manifest.env:
                    yield Used(use="variable", what=name)
            for connection in row.played.done.connections:
                if connection.verdict not in FINAL:
                    yield Used(use="connect", what=f"{connection.host}:{connection.port}")

    def _undeclared(self, row: _Row) -> Iterator[Undeclared]:
        """Uses without a grant: first those that the interpreter reported, with names of hosts and programs; then the kernel's."""
        # The kernel misses nothing, but sees an address or a path where the interpreter knows a name. So a use that the
        # interpreter has reported is left out of the kernel's list.
        reported: set[tuple[Use, str]] = set()
        for refused in row.played.done.refused:
            use: Use = (
                refused.access if refused.access != "use" else "start" if "programs" in refused.allow else "connect"
            )
            reported.add((use, refused.what if use in ("read", "write") else ""))
            yield self._undeclared_use(row, use, refused.what, refused.allow)
        for seen in row.observed.seen:
            key = (seen.doing, seen.what if seen.doing in ("read", "write") else "")
            if not seen.decided and not _only_looked_for(seen) and key not in reported:
                yield self._undeclared_use(row, seen.doing, seen.what, self._allow(row, seen))
        for name in row.observed.lacking:
            if name not in self._manifest.env:
                yield self._undeclared_use(row, "variable", name, self._grant(row, "variable", name))

    def _allow(self, row: _Row, seen: ObservedAccess) -> str:
        return (
            self._grant(row, seen.doing, seen.what) if seen.inside or seen.doing not in ("read", "write") else NOTHING
        )

    def _grant(self, row: _Row, use: Use, what: str) -> str:
        action = self._manifest.actions[row.played.case.action.partition(".")[2]]
        return grant_text(self._manifest, action, use, what)

    def _undeclared_use(self, row: _Row, use: Use, what: str, allow: str) -> Undeclared:
        result = row.played.result
        return Undeclared(
            file=result.file,
            line=result.line,
            note=result.note,
            action=row.played.case.action,
            use=use,
            what=what,
            allow=allow,
        )

    # ── what was not used ────────────────────────────────────────────────────────────────────────────────────────────

    def _unused(self) -> Iterator[tuple[tuple[str, ...], str]]:
        """Each grant that no case used, with its keys in the manifest."""
        manifest = self._manifest
        used: dict[Use, set[str]] = {}
        for item in self._used():
            used.setdefault(item.use, set()).add(item.what)
        files = {use: used.get(use, set()) for use in ("read", "write")}
        for key, patterns in (("read", manifest.read), ("write", manifest.write)):
            for pattern in patterns:
                if not any(covered([pattern], what) or covered([pattern], f"{what}/**") for what in files[key]):
                    yield ("at_most", key), pattern
        for store in manifest.stores:
            if not any(_in_store(store, what) for what in files["read"] | files["write"]):
                yield ("at_most", "stores"), store
        for program in manifest.programs:
            if program not in used.get("start", ()):
                yield ("always", "programs"), program
        for name in () if manifest.source == "command" else manifest.env:
            if name not in used.get("variable", ()):
                yield ("always", "env"), name
        yield from self._unused_hosts()
        for action in manifest.actions.values():
            if rows := [row for row in self._rows if row.action == action.name]:
                yield from self._unused_touches(action, rows)

    def _unused_hosts(self) -> Iterator[tuple[tuple[str, ...], str]]:
        made = [item for row in self._rows for item in row.played.done.connections if item.verdict not in FINAL]
        for key, lines in (("always", self._manifest.hosts), ("at_most", self._manifest.url_hosts)):
            for line in lines:
                host = parse_host(line)
                if not any(
                    host.covers(item.host, item.port) and (not item.method or host.allows(item.method, item.path))
                    for item in made
                ):
                    yield (key, "hosts"), line

    def _unused_touches(self, action: Action, rows: list[_Row]) -> Iterator[tuple[tuple[str, ...], str]]:
        for template, touch in zip(action.templates, action.touches, strict=True):
            if template.access != "use" and not any(_touched(template, row) for row in rows):
                yield ("actions", action.name, "touches"), touch

    def _smaller(self, grants: Iterable[tuple[tuple[str, ...], str]]) -> tuple[tuple[Unused, ...], str]:
        """The unused grants, and the tables without those that can be removed.

        Each removal is checked by the rules of manifests, on top of the earlier ones: two grants may depend on each
        other.
        """
        document = written = load_toml(self._text, file=self._file)
        changed: dict[tuple[str, ...], list[str]] = {}
        unused: list[Unused] = []
        for path, grant in grants:
            without = copy.deepcopy(document)
            values = _list_at(without, path)
            at = values.index(grant)
            line = toml_line(self._text, *path, str(_list_at(written, path).index(grant)))
            del values[at]
            needed = self._problem(without)
            if not needed:
                document, changed[path] = without, values
            unused.append(Unused(file=self._file, line=line, key=".".join(path), grant=grant, needed=needed))
        return tuple(unused), _tables(changed)

    def _problem(self, document: dict[str, Json]) -> str:
        problems = read_table(ManifestTable, document, file=self._file, text=self._text)[1]
        problems += rules(document, file=self._file, text=self._text)
        return problems[0].what if problems else ""

    def _unjudged(self) -> Iterator[str]:
        for name in self._unplayed:
            yield f"{self._manifest.name}.{name}: no case starts it, so there is no smaller manifest"
        if self._manifest.secrets:
            yield "always.secrets: only the server can see whether a secret is needed"
        if self._manifest.source == "command" and self._manifest.env:
            yield "always.env: a program reads its environment without a system call"
        elif self._manifest.programs and self._manifest.env:
            yield "always.env: only reads by Python are observed, not those by programs"


def _only_looked_for(seen: ObservedAccess) -> bool:
    """True for a file outside the workspace. Libraries look for such files and continue without; no grant can add them."""
    return seen.doing == "read" and not seen.decided and not seen.inside


def _touched(template: Template, row: _Row) -> bool:
    """True if the case opened the resource of this touch, with the access that it names."""
    assert row.played.call is not None
    if template.kind == "store":
        return any(_in_store(template.store, seen.what) for use in ("read", "write") for seen in row.did(use))
    value: Json = row.played.call.arguments.get(template.argument) if template.argument else template.constant
    values = cast("list[object]", value if isinstance(value, list) else [value])
    names = [item for item in values if isinstance(item, str)]
    sets = [f"{name}/**" if name != "." else "**" for name in names] if template.form == "set" else names
    return any(
        seen.what == name
        or (name.endswith("**") and (seen.what == name[:-3] or name == "**" or covered([name], seen.what)))
        for seen in row.did(cast(Use, template.access))
        for name in sets
    )


def _in_store(store: str, what: str) -> bool:
    folder = f"stores/{store.removesuffix('*')}".rstrip("/")
    return what == folder or what.startswith(f"{folder}/")


def _list_at(document: Mapping[str, Json], path: tuple[str, ...]) -> list[str]:
    value: Json = document
    for key in path:
        value = value[key]
    return cast("list[str]", value)


def _tables(changed: Mapping[tuple[str, ...], list[str]]) -> str:
    """The changed keys under their tables, as TOML."""
    tables: dict[str, list[str]] = {}
    for path, values in changed.items():
        tables.setdefault(".".join(path[:-1]), []).append(f"{path[-1]} = {json.dumps(values, ensure_ascii=False)}")
    return "\n\n".join("\n".join((f"[{table}]", *lines)) for table, lines in tables.items())
