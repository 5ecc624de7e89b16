"""Records `remit demo` on a terminal and writes `docs/assets/demo.svg`, the picture of the README.

    PYTHONPATH=docs python -m generator.picture

A person is played who answers the one question with yes. What differs from run to run (numbers of runs, the folder) is replaced, so that the
picture changes only where the demonstration does.
"""

from __future__ import annotations

import os
import pty
import re
import struct
import sys
import tempfile
from fcntl import ioctl
from io import StringIO
from itertools import groupby
from pathlib import Path
from termios import TIOCSWINSZ
from typing import Final

from rich.console import Console
from rich.text import Text

PICTURE: Final = Path(__file__).resolve().parents[1] / "assets" / "demo.svg"
COLUMNS: Final = 150
LAST: Final = '"status": "closed"'  # the line after the approval; then come the answer and the receipt
COMMAND: Final = "uvx --from 'remit[bwrap]' remit demo"
# (what differs from run to run, what the picture has in its place)
REPLACED: Final = (
    (r"\b[0-9a-f]{32}\b", "7c1f0a52d3be4e8f9a6b1c2d3e4f5061"),
    (r"\b[0-9a-f]{8}\b(?=;|,| and| for|\s|$)", "7c1f0a52"),
    (r"(?<![\d.])\d+(\.\d+)? (ms|s)\b", "0.2 s"),
)
CALL: Final = re.compile(r"(?:\x1b\[[\d;]*m|\s)*(?:ok|failed|refused)\b")
# A window as rich draws it, without its fonts from another site: a reader's browser has a monospaced one.
FORMAT: Final = """<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg" role="img">
<title>remit demo: an agent meets a hidden instruction, and the on-call lead approves its last call</title>
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: {char_height}px; line-height: {line_height}px; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: sans-serif; }}
{styles}
</style>
<defs><clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}" /></clipPath>{lines}</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


def recorded(folder: Path) -> str:
    """What the demonstration writes on a terminal, with its colours."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        words = [sys.executable, "-m", "remit", "demo", "demo", "--no-browser"]
        variables = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
        os.execve(sys.executable, words, variables)  # noqa: S606 - the child of a terminal replaces itself
    ioctl(terminal, TIOCSWINSZ, struct.pack("HHHH", 60, COLUMNS, 0, 0))
    output, answered = b"", False
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:  # the command has ended
            break
        output += part
        if not answered and b"[y/N]" in output:
            answered = True
            os.write(terminal, b"y\n")
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if code:
        raise SystemExit(f"error: the demonstration ended with {code}:\n{output.decode()}")
    return output.decode().replace("\r\n", "\n")


def same_each_time(text: str) -> str:
    """The text without what differs from run to run; calls that ran side by side are in the order of their names."""
    for pattern, instead in REPLACED:
        text = re.sub(pattern, instead, text, flags=re.M)
    parts = groupby(text.splitlines(), lambda line: CALL.match(line) is not None)
    return "\n".join(line for is_call, lines in parts for line in (sorted(lines) if is_call else lines))


def first_part(text: str) -> str:
    """The lines up to the result of the approved call, which fit on a page."""
    lines = text.splitlines()
    last = next(number for number, line in enumerate(lines) if LAST in line)
    return "\n".join(lines[: last + 1])


def picture(text: str) -> str:
    """The text as a terminal shows it, as SVG."""
    console = Console(
        record=True, width=COLUMNS, file=StringIO(), force_terminal=True, legacy_windows=False, color_system="truecolor"
    )
    console.print(Text(f"$ {COMMAND}", style="bold"))
    console.print(Text.from_ansi(text.rstrip()))
    return console.export_svg(title="remit demo", code_format=FORMAT, unique_id="demo")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        PICTURE.write_text(picture(first_part(same_each_time(recorded(Path(folder))))), encoding="utf-8")


if __name__ == "__main__":
    main()
