"""One line of `touches` in a manifest: which resource an argument names, and how the call accesses it.

"<read|write|use> <kind>:<template>"      template: {argument}, {argument}/**, {argument:sql}, {argument:name}, {argument/*/member}, or a constant

Two constants are sets that the rules narrow to what they permit: `read store:search/*` is each store of a group, and `use document:**`
is every resource of a kind without a grammar.

And one line of `adds_to_directory`: which resources a result names.

"<kind>:{<path>}", "<kind>:{<path>:name}", "https:{<path>:links}", each with " as {<path>}" or without      path: parts separated by /; * is every item, @ every key, any other part a member
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal, TypeAlias, cast

from remit.core import Access, Listing, Refusal
from remit.core.parsing import canonical

Form: TypeAlias = Literal["one", "set", "sql", "name", "constant", "each", "within"]

SPELLED: Final = ("file", "store", "table", "mail", "host", "http", "https", "url")  # kinds whose names have a grammar
OPENED: Final = (
    "file",
    "store",
)  # kinds for which the kernel enforces access; the tool itself enforces every other kind
SHAPE: Final = '"read file:{path}", "write file:{path}", "read file:{folder}/**", "use table:{query:sql}", "use hotel:{hotel:name}", "use payment:{payments/*/id}" or "write store:tickets"'

_LINE = re.compile(r"(read|write|use) ([a-z][a-z0-9_]{0,30}):(.+)", re.DOTALL)
_GROUPED = re.compile(r"([a-z][a-z0-9]*(?:_[a-z0-9]+)*)/(?:\*|\{([A-Za-z_][A-Za-z0-9_]*)\})")
_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)((?:/[^{}/:\s]+)*)(:[^{}]*)?\}(/\*\*)?")


LISTED: Final = '"mail:{*/email}", "person:{*}", "hotel:{@:name}", "account:{}" or "document:{*/id} as {*/title}"'
_LISTING = re.compile(
    r"([a-z][a-z0-9_]{0,30}):\{((?:[^{}/:\s]+(?:/[^{}/:\s]+)*)?)(:name|:links)?\}(?: as \{([^{}/:\s]+(?:/[^{}/:\s]+)*)\})?"
)


class TouchError(ValueError):
    """A line of `touches` or `adds_to_directory`, or a pattern of `[at_most]`, is not valid; `fix` says what to write."""

    def __init__(self, what: str, fix: str) -> None:
        self.what = what
        self.fix = fix
        super().__init__(what)


@dataclass(frozen=True, kw_only=True)
class Template:
    """One line of `touches`.

    `argument` is "" for a constant resource, and `constant` is "" for any other; a constant may be a set of files. `path` leads to
    the names inside of the argument (`*` for every item of a list, else a member); it is empty if the argument is the name. `group`
    is the folder of a store of a group: "search" of `store:search/{collection}`.

    A template of the form `each` or `within` stands for what the rules permit: each store of the group, or every resource of the kind.
    """

    access: Access
    kind: str
    form: Form
    argument: str = ""
    path: tuple[str, ...] = ()
    constant: str = ""
    group: str = ""

    @property
    def store(self) -> str:
        """For a store, the entry of `[at_most] stores` that allows it: its name, or "GROUP/*"."""
        return f"{self.group}/*" if self.group else self.constant

    @property
    def numbered(self) -> bool:
        """True if a whole number may name the resource: an id of a kind whose names have no grammar."""
        return self.form == "one" and self.kind not in SPELLED


def parse_listing(text: str) -> Listing:
    """Parse a line of `adds_to_directory`. Raises TouchError."""
    match = _LISTING.fullmatch(text)
    if match is None or match[1] in (*OPENED, "none", "table"):
        raise TouchError(f"{text!r} names no resources of a result", f"write {LISTED}")
    path, alias = (tuple(part.split("/")) if part else () for part in (match[2], match[4]))
    if (match[3] == ":links") is not (match[1] in ("http", "https")):
        what = f"{text!r} has ':links' without a URL, or a URL without ':links'"
        raise TouchError(what, 'write "https:{*/body:links} as {*/sender}"')
    return Listing(kind=match[1], path=path, proper=match[3] == ":name", links=match[3] == ":links", alias=alias)


@lru_cache(4096)  # each call of a tool asks for its templates
def parse_touch(text: str) -> Template:
    """Parse a line of `touches`. Raises TouchError."""
    match = _LINE.fullmatch(text)
    if match is None:
        raise TouchError(f"{text!r} is not an access to a resource", f"write {SHAPE}")
    access, kind, rest = cast(Access, match[1]), match[2], match[3]
    _check_kind(text, access, kind)
    if kind == "store" and (grouped := _GROUPED.fullmatch(rest)) is not None:
        return _of_group(text, access, grouped[1], grouped[2] or "")
    if (kind not in SPELLED and kind != "none") and rest == "**":
        return Template(access=access, kind=kind, form="within")
    placeholder = _PLACEHOLDER.fullmatch(rest)
    if placeholder is None:
        return _constant(text, access, kind, rest)
    argument, inside, suffix, many = placeholder.groups()
    if not _fits(kind, suffix, bool(many)):
        raise TouchError(f"{text!r} has an unknown placeholder", f"write {SHAPE}")
    if many and (kind != "file" or access != "read"):
        raise TouchError(f"{text!r} is a set, and only a read of files can be one", 'write "read file:{folder}/**"')
    if inside and (access != "use" or suffix == ":sql"):
        raise TouchError(f"{text!r} names a resource inside of an argument", "use a separate argument for it")
    if kind == "store":
        fix = 'write the name of the store, or its group: "write store:tickets", "write store:search/{collection}"'
        raise TouchError(f"{text!r} names a store by an argument", fix)
    form: Form = "sql" if suffix == ":sql" else "name" if suffix else "set" if many else "one"
    return Template(access=access, kind=kind, form=form, argument=argument, path=tuple(inside.split("/")[1:]))


def _of_group(text: str, access: Access, group: str, argument: str) -> Template:
    """A store of a group that an argument names, or each one that the rules permit."""
    if argument:
        return Template(access=access, kind="store", form="one", argument=argument, group=group)
    if access != "read":
        raise TouchError(f"{text!r} is a set, and can only be read", f'write "{access} store:{group}/{{name}}"')
    return Template(access=access, kind="store", form="each", group=group)


def _check_kind(text: str, access: Access, kind: str) -> None:
    """Raise TouchError if the access does not fit the kind: the kernel opens files and stores, and nothing else."""
    if (access == "use") is (kind in OPENED):
        right = "read or write" if kind in OPENED else "use"
        raise TouchError(
            f"{text!r} cannot {access} a {kind}", f"write {right!r}: the kernel opens only files and stores"
        )
    if kind == "none":
        raise TouchError(f"{text!r} has the kind 'none'", "remove it: a call without touches has the resource 'none:'")


def _fits(kind: str, suffix: str | None, many: bool) -> bool:
    """True if a placeholder of that kind may end in `suffix`: `:sql` for tables, `:name` for a kind without a grammar."""
    match suffix:
        case None:
            return True
        case ":sql":
            return kind == "table" and not many
        case ":name":
            return kind not in SPELLED and not many
        case _:
            return False


def _constant(text: str, access: Access, kind: str, name: str) -> Template:
    if "{" in name or "}" in name:
        if inside := re.fullmatch(r"\{([A-Za-z_][A-Za-z0-9_]*)\.([A-Za-z0-9_.]+)\}", name):
            path = f"{inside[1]}/{inside[2].replace('.', '/')}"
            fix = (
                f"write {access} {kind}:{{{path}}}"
                if access == "use"
                else f"give the action an argument of its own for {inside[2]!r}"
            )
            raise TouchError(f"{text!r} names a member of an argument by a dot", fix)
        raise TouchError(f"{text!r} has an unknown placeholder", f"write the placeholder alone: {SHAPE}")
    many = kind == "file" and access == "read" and name.endswith("/**")
    try:
        spelled = canonical(kind, name.removesuffix("/**") if many else name)
    except Refusal as refusal:
        raise TouchError(
            f"{text!r} is {refusal.message.partition(':')[0]}", refusal.message.partition(": ")[2]
        ) from refusal
    if spelled != (name.removesuffix("/**") if many else name):
        raise TouchError(
            f"{text!r} is not spelled in the canonical way", f"write {kind}:{spelled}{'/**' if many else ''}"
        )
    return Template(access=access, kind=kind, form="constant", constant=name)


def check_pattern(pattern: str) -> None:
    """Raise TouchError unless `[at_most]` may contain the pattern: relative, `*` in a segment, `**` across segments."""
    segments = pattern.split("/")
    if (all(segment in ("*", "**") for segment in segments) and "**" in segments) or pattern == "/**":
        raise TouchError(f"{pattern!r} matches every file", 'write the folders that the tool needs: "docs/**"')
    plain = "/".join("x" if segment == "**" else segment.replace("*", "x") for segment in segments)
    try:
        spelled = canonical("file", plain)
    except Refusal as refusal:
        fix = f'{refusal.message.partition(": ")[2]}; patterns look like "docs/**" or "logs/*.txt"'
        raise TouchError(f"{pattern!r} is not a pattern of files", fix) from refusal
    if spelled != plain or any(segment != "**" and "**" in segment for segment in segments):
        raise TouchError(f"{pattern!r} is not a pattern of files", 'write it as "docs/**" or "logs/*.txt"')
