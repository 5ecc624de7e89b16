"""What an MCP server gets: its command line, and the arguments of a call, in which files have their names in its sandbox."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

from remit.core import Json
from remit.sandbox import OWN_FOLDER, PACKAGES_FOLDER, SERVER_FILES, Profile
from remit.sandbox.packages import base_python
from remit.workspace.manifest import Action, Manifest


def server_arguments(action: Action, arguments: Mapping[str, Json]) -> dict[str, Json]:
    """The arguments with the path of each file that `touches` names by them: `/work/files/docs/a.md` for `docs/a.md`."""
    given = dict(arguments)
    done: set[tuple[str, ...]] = set()
    for template in action.templates:
        place = (template.argument, *template.path)
        if template.kind == "file" and template.argument in given and place not in done:
            done.add(place)
            given[template.argument] = _placed(given[template.argument], template.path)
    return given


def _placed(value: Json, path: Sequence[str]) -> Json:
    if isinstance(value, list):
        rest = path[1:] if path[:1] == ("*",) else path
        return [_placed(item, rest) for item in cast("Sequence[Json]", value)]
    if path and isinstance(value, dict):
        fields = cast("dict[str, Json]", value)
        return {key: _placed(item, path[1:]) if key == path[0] else item for key, item in fields.items()}
    if not isinstance(value, str):
        return value
    return SERVER_FILES if value == "." else f"{SERVER_FILES}/{value}"


def with_server(profile: Profile, manifest: Manifest) -> Profile:
    """The profile of a call, with what starts the server of an MCP tool, or where it is; another tool's profile as it is."""
    if manifest.source != "mcp":
        return profile
    if manifest.server_url:
        return replace(profile, source="mcp", url=manifest.server_url, tier="none")
    packages = PACKAGES_FOLDER if profile.environment else ""
    argv = manifest.server_command(python=base_python(), own=OWN_FOLDER, files=SERVER_FILES, packages=packages)
    given = manifest.server_variables(own=OWN_FOLDER, files=SERVER_FILES, packages=packages)
    return replace(profile, source="mcp", argv=argv, env={**profile.env, **given})
