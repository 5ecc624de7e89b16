"""Writes the files of a new tool: a template with its name, or files that were made for it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias, get_args

from remit.core import UsageError, one_of
from remit.core.parsing import read_text
from remit.tools.making.command import command_files
from remit.tools.making.openapi import openapi_files
from remit.tools.making.service import service_files

Form: TypeAlias = Literal["words", "package", "http", "openapi", "command"]
FORMS: Final[tuple[str, ...]] = get_args(Form)

TEMPLATES: Final = Path(__file__).parent / "templates"
_NAME: Final = "mytool"  # the name of the tool in each template
# As `Name` of a manifest, which would refuse it only when the workspace is loaded.
VALID_NAME: Final = re.compile(r"(?!remit$|none$)(?=.{1,31}$)[a-z][a-z0-9]*(?:_[a-z0-9]+)*")


@dataclass(frozen=True, kw_only=True)
class NewTool:
    """The texts of a new tool by file name. `left_out`: the operations of a service that are no actions, with the reasons."""

    texts: Mapping[str, str]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a new tool is made from.

    `source`: the URL of the items for "http", the file for "openapi", the command line for "command"; "": the example of the template.
    For "openapi": `only` these operations, empty for all of them, and the `url` of the service, "" for that of the document. For
    "command": `reads` if the program changes nothing.
    """

    form: str = "words"
    source: str = ""
    only: tuple[str, ...] = ()
    url: str = ""
    reads: bool = False


def new_tool(root: Path, name: str, origin: Origin) -> NewTool:
    """Write a working example tool.

    Raises:
        UsageError: the name is taken or not valid, or no tool can be made from the source.
        WorkspaceError: the source is a file that cannot be read.
    """
    check_name(root, name)
    made = tool_files(name, origin)
    write_tool(root, name, made.texts)
    return made


def tool_files(name: str, origin: Origin) -> NewTool:
    """The texts of a new tool. Raises as `new_tool`."""
    form, source = origin.form, origin.source
    if form not in FORMS:
        raise UsageError(f"there is no form {form!r} of a new tool: {one_of(form, FORMS)}")
    if origin.reads and not (source and form == "command"):
        raise UsageError('--reads says that a program changes nothing: remit tool new NAME --from command "…" --reads')
    if form == "openapi":
        if not source:
            raise UsageError("name the OpenAPI document: remit tool new NAME --from openapi FILE")
        texts, left_out = openapi_files(name, Path(source), origin.only, origin.url)
        return NewTool(texts=texts, left_out=left_out)
    if origin.only or origin.url:
        raise UsageError(f"a tool from {form!r} has no OpenAPI document: remove {'--only' if origin.only else '--url'}")
    if source and form == "command":
        return NewTool(texts=command_files(name, source, reads=origin.reads))
    texts = template_files(form, name)
    if source and form != "http":
        raise UsageError(f"a tool from {form!r} is made from nothing else: remove {source!r}")
    return NewTool(texts=service_files(texts, source) if source else texts)


def template_files(form: str, name: str) -> dict[str, str]:
    """The texts of a template, with the name of the new tool."""
    found = sorted(path for path in (TEMPLATES / form).iterdir() if path.is_file())
    return {path.name: read_text(path, file=path.name).replace(_NAME, name) for path in found}


def check_name(root: Path, name: str) -> None:
    """Raise UsageError unless the tool can have that name."""
    if VALID_NAME.fullmatch(name) is None:
        fix = "use at most 31 lower-case letters, digits and single underscores, a letter first"
        raise UsageError(f"{name!r} is not a valid name: {fix}")
    folder = root / "tools" / name
    if folder.exists():
        raise UsageError(f"the tool {name!r} exists already in {folder}: choose another name")


def write_tool(root: Path, name: str, texts: Mapping[str, str]) -> None:
    """Write the files into a new folder; all of them or none."""
    folder = root / "tools" / name
    folder.mkdir(parents=True)
    try:
        for file, text in texts.items():
            (folder / file).write_text(text, encoding="utf-8")
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
