"""One line of a manifest's `touches`: which resource an argument names, and how the kernel opens it.

"<read|write|use> <kind>:<template>"      template: {argument}, {argument}/**, {argument:sql}, {argument:name}, {argument/*/member}, or a constant

And one line of its `lists`: which resources a result names.

"<kind>:{<path>}", "<kind>:{<path>:name}", "https:{<path>:links}", each with " as {<path>}" or without      path: parts with / between; * every item, @ every key, else a member
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, cast

from remit.core import Access, Listing, Refusal
from remit.core.parsing import canonical

Form: TypeAlias = Literal["one", "set", "sql", "name", "constant"]

SPELLED: Final = ("file", "store", "table", "mail", "host", "http", "https", "url")  # kinds with a grammar of their own
OPENED: Final = ("file", "store")  # kinds that the kernel opens; the tool itself enforces every other kind
SHAPE: Final = '"read file:{path}", "write file:{path}", "read file:{folder}/**", "use table:{query:sql}", "use hotel:{hotel:name}", "use payment:{payments/*/id}" or "write store:tickets"'

_LINE = re.compile(r"(read|write|use) ([a-z][a-z0-9_]{0,30}):(.+)", re.DOTALL)
_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)((?:/[^{}/:\s]+)*)(:[^{}]*)?\}(/\*\*)?")


LISTED: Final = '"mail:{*/email}", "person:{*}", "hotel:{@:name}", "account:{}" or "document:{*/id} as {*/title}"'
_LISTING = re.compile(
    r"([a-z][a-z0-9_]{0,30}):\{((?:[^{}/:\s]+(?:/[^{}/:\s]+)*)?)(:name|:links)?\}(?: as \{([^{}/:\s]+(?:/[^{}/:\s]+)*)\})?"
)


class TouchError(ValueError):
    """A line of `touches`, or a pattern of `[at_most]`, is wrong; `fix` says what to write."""

    def __init__(self, what: str, fix: str) -> None:
        self.what = what
        self.fix = fix
        super().__init__(what)


@dataclass(frozen=True, kw_only=True)
class Template:
    """`argument` is "" for a constant, and `constant` is "" for everything else. A constant may be a set of files.

    `path` is where in the argument the names stand, empty where it is the name: `*` every item of a list, else a member.
    """

    access: Access
    kind: str
    form: Form
    argument: str = ""
    path: tuple[str, ...] = ()
    constant: str = ""

    @property
    def numbered(self) -> bool:
        """Whether a whole number may name the resource: an id of a kind without a grammar of its own."""
        return self.form == "one" and self.kind not in SPELLED


def parse_listing(text: str) -> Listing:
    """The line as what it means; raises `TouchError`."""
    found = _LISTING.fullmatch(text)
    if found is None or found[1] in (*OPENED, "none", "table"):
        raise TouchError(f"{text!r} lists nothing", f"write {LISTED}")
    path, alias = (tuple(part.split("/")) if part else () for part in (found[2], found[4]))
    if (found[3] == ":links") is not (found[1] in ("http", "https")):
        raise TouchError(f"{text!r} lists nothing", 'links stand in texts: write "https:{*/body:links} as {*/sender}"')
    return Listing(kind=found[1], path=path, proper=found[3] == ":name", links=found[3] == ":links", alias=alias)


def parse_touch(text: str) -> Template:
    """The line as a template; raises `TouchError`."""
    found = _LINE.fullmatch(text)
    if found is None:
        raise TouchError(f"{text!r} is not a touch", f"write {SHAPE}")
    access, kind, rest = cast(Access, found[1]), found[2], found[3]
    _check_kind(text, access, kind)
    placeholder = _PLACEHOLDER.fullmatch(rest)
    if placeholder is None:
        return _constant(text, access, kind, rest)
    argument, inside, suffix, many = placeholder.groups()
    if not _fits(kind, suffix, bool(many)):
        raise TouchError(f"{text!r} has an unknown placeholder", f"write {SHAPE}")
    if many and (kind != "file" or access != "read"):
        raise TouchError(f"{text!r} is a set, and only files that are read can be one", 'write "read file:{folder}/**"')
    if inside and (access != "use" or suffix == ":sql"):
        raise TouchError(f"{text!r} looks for it inside of an argument", "give it an argument of its own")
    if kind == "store":
        raise TouchError(f"{text!r} names a store by an argument", 'write the store\'s name: "write store:tickets"')
    form: Form = "sql" if suffix == ":sql" else "name" if suffix else "set" if many else "one"
    return Template(access=access, kind=kind, form=form, argument=argument, path=tuple(inside.split("/")[1:]))


def _check_kind(text: str, access: Access, kind: str) -> None:
    """Raise `TouchError` where the kind cannot be touched so: the kernel opens files and stores, and nothing else."""
    if (access == "use") is (kind in OPENED):
        right = "read or write" if kind in OPENED else "use"
        raise TouchError(
            f"{text!r} cannot {access} a {kind}", f"write {right!r}: only files and stores are opened by the kernel"
        )
    if kind == "none":
        raise TouchError(
            f"{text!r} names the kind 'none'", "remove it: a call without touches is decided on 'none:' anyway"
        )


def _fits(kind: str, suffix: str | None, many: bool) -> bool:
    """Whether a placeholder of that kind may end in `suffix`; `:sql` names tables, `:name` a kind without a grammar."""
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
        raise TouchError(f"{text!r} has an unknown placeholder", f"a placeholder stands alone; write {SHAPE}")
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
    """Raise `TouchError` unless this is a pattern that `[at_most]` may hold: relative, `*` in a segment, `**` across."""
    segments = pattern.split("/")
    if (all(segment in ("*", "**") for segment in segments) and "**" in segments) or pattern == "/**":
        raise TouchError(f"{pattern!r} reaches every file", 'name the folders that the tool needs: "docs/**"')
    plain = "/".join("x" if segment == "**" else segment.replace("*", "x") for segment in segments)
    try:
        spelled = canonical("file", plain)
    except Refusal as refusal:
        fix = f'{refusal.message.partition(": ")[2]}; patterns look like "docs/**" or "logs/*.txt"'
        raise TouchError(f"{pattern!r} is not a pattern of files", fix) from refusal
    if spelled != plain or any(segment != "**" and "**" in segment for segment in segments):
        raise TouchError(f"{pattern!r} is not a pattern of files", 'write it as "docs/**" or "logs/*.txt"')
