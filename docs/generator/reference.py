"""Every page of the reference, by its path in docs/."""

from __future__ import annotations

from functools import cache

from generator import codes, commands, events, python, settings, telemetry


@cache
def pages() -> dict[str, str]:
    """The generated pages and files: their text, by path in docs/."""
    made: dict[str, str] = {}
    for module in (commands, settings, codes, events, telemetry, python):
        made |= module.pages()
    return made


def index() -> str:
    """The list of the generated pages, for the end of `reference/README.md`."""
    titles = {
        path: text.partition("\n")[0].removeprefix("# ")
        for path, text in pages().items()
        if path.endswith(".md") and not path.startswith("reference/files/")
    }
    titles["reference/files/README.md"] = "Files"
    below = {path.removeprefix("reference/"): title for path, title in titles.items()}
    return "\n" + "".join(
        f"- [{title}]({path})\n" for path, title in sorted(below.items(), key=lambda one: one[1].strip("`"))
    )
