"""Brokers that run as root, as an ordinary user, or on a machine without namespaces."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from adversarial.accounts import Account, accounts
from adversarial.attack_list import abuse


@pytest.fixture
def base() -> Iterator[Path]:
    """A folder that other accounts can enter, with a tool, a working folder, and a folder that only its owner can enter."""
    folder = Path(tempfile.mkdtemp(prefix="remit-test-"))
    for name in ("work", "tool", "closed"):
        (folder / name).mkdir()
    folder.chmod(0o755)
    (folder / "closed").chmod(0o700)
    (folder / "closed" / "one.md").touch()
    for number in range(1_000):
        (folder / "work" / f"{number}.md").touch()
    (folder / "tool" / "main.py").write_text(
        "import os\ndef act() -> int:\n    return len([open(name).read() for name in os.listdir()])\n"
    )
    yield folder
    shutil.rmtree(folder)


def account(name: str) -> Account:
    match = next((item for item in accounts() if item.name == name), None)
    if match is None:
        pytest.skip("every other test already runs as an ordinary user")
    if why := match.missing():
        pytest.skip(why)
    return match


STARTED = """
import asyncio, json, os, resource, sys
from pathlib import Path
from support.sandbox import below
from remit.sandbox import Profile, Sandbox, probe
base = Path(sys.argv[1])
# The kernel lets an ordinary account have only so many descriptors in flight as it may open.
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
async def call(place):
    profile = Profile(tool="t", action="act", source="python", code=base / "tool", root=base / place, reads=("**",), wall=60.0, cpu=20.0)
    async with Sandbox() as own:
        value = (await own.run(profile, {}, declared={})).value
        return [value, sorted({account(pid) for pid in below(os.getpid())} - {None})]
def account(pid):
    try:
        return int(next(line for line in open(f"/proc/{pid}/status") if line.startswith("Uid:")).split()[1])
    except OSError:  # an idle process that has ended since
        return None
calls = {place: asyncio.run(call(place)) for place in sys.argv[2:]}
tiers = {report.name: [check.name for check in report.checks if not check.held] for report in probe() if report.works}
print(json.dumps({"calls": calls, "escaped": tiers}))
"""


def result_of(by: Account, *arguments: str) -> dict[str, object]:
    done = by.run("-c", STARTED, *arguments)
    assert done.stderr == ""
    return json.loads(done.stdout)


@abuse(91)
def test_root_switches_to_nobody_where_that_account_can_read_what_is_needed(base: Path) -> None:
    """The twin: with a working folder that other accounts cannot read, the tool runs as root."""
    assert result_of(account("root that becomes nobody"), str(base), "work", "closed") == {
        "calls": {"work": [1_000, [65_534]], "closed": [1, [0]]},
        "escaped": {"full": [], "landlock": []},
    }


def test_an_ordinary_user_is_confined_as_well(base: Path) -> None:
    """Every escape of the doctor in both tiers, and a call with far more files than the account may open at once."""
    by = account("an ordinary user")
    for path in (base, *base.iterdir()):
        os.chown(path, 1001, 1001)
    assert result_of(by, str(base), "work") == {
        "calls": {"work": [1_000, [1001]]},
        "escaped": {"full": [], "landlock": []},
    }


UNAVAILABLE = """
from remit.core.errors import RunEnded
from remit.sandbox import Sandbox
for tier in ("full", "landlock"):
    try:
        print(Sandbox(accept=(tier,)).confinement)
    except RunEnded as ended:
        print(ended.code, ended.fix)
"""


@abuse(90)
@pytest.mark.parametrize(
    ("machine", "full"),
    [
        ("echo 0 > /proc/sys/user/max_user_namespaces", "sandbox_unavailable raise `sysctl user.max_user_namespaces`"),
        ("mount -t tmpfs none /proc/fs", "full"),
    ],
    ids=["no namespace can be made", "a container's /proc, partly covered"],
)
def test_a_machine_with_fewer_features_uses_the_tier_that_works(machine: str, full: str) -> None:
    """In a namespace that is limited like this: a tier works or names its fix, and the weaker one works."""
    inside = ["unshare", "--user", "--map-root-user", "--mount"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*inside, "true"], check=False, capture_output=True).returncode
    ):
        pytest.skip("no such namespace can be made here")
    done = subprocess.run(
        [*inside, "sh", "-c", f'{machine} && exec "$@"', "sh", sys.executable, "-c", UNAVAILABLE],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    output = done.stdout.splitlines()
    assert output[0].startswith(full), done
    assert output[1:] == ["landlock"]
