"""A disk that is really full: a small one of its own below `traces/`, with the commands as people type them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

from support.workspaces.typed import bank

SOURCE: Final = '''
def pay(to: str, amount: int) -> str:
    """Pay, which takes a while."""
    line = entered(f"{to} {amount}")
    time.sleep(3)
    return line
'''
INSIDE: Final = ("unshare", "--user", "--map-root-user", "--mount")
# In the namespace: `traces/` is a disk of 8 MiB, which gets full once the payment is made, and free again before the run goes on.
STEPS: Final = """
mount -t tmpfs -o size=8m none traces
"$@" run clerk pay >out1 2>&1 &
until [ -s work/clerk/stores/ledger/lines ]; do kill -0 $! || exit 3; sleep 0.05; done
head -c 16M /dev/zero >traces/full 2>/dev/null
wait $!
echo $? >rc1
rm traces/full
"$@" trace list --json >list1
RUN=$("$1" -c "import json; print(json.load(open('list1'))[0]['run'])")
"$@" trace show "$RUN" >show1 2>&1
"$@" run --resume "$RUN" >out2 2>&1
echo $? >rc2
"$@" trace list --json >list2
"""


def test_a_disk_that_gets_full_during_a_payment_ends_the_run_and_repeats_no_payment(tmp_path: Path) -> None:
    if (
        shutil.which("unshare") is None
        or subprocess.run([*INSIDE, "true"], check=False, capture_output=True).returncode
    ):
        pytest.skip("no such namespace can be made here")
    shop = bank(tmp_path / "shop", SOURCE)
    shop.script({"pay": {"to": "ann", "amount": 5}})
    folder = shop.folder
    (folder / "traces").mkdir(exist_ok=True)
    remit = [sys.executable, "-m", "remit"]
    done = subprocess.run(
        [*INSIDE, "sh", "-c", STEPS, "sh", *remit],
        cwd=folder, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip

    def read(name: str) -> str:
        return (folder / name).read_text()

    def row(name: str) -> dict[str, Any]:
        (found,) = json.loads(read(name))
        return dict(found)

    assert (done.returncode, done.stderr) == (0, "")
    assert (read("rc1"), "No space left on device" in read("out1")) == ("1\n", True), read("out1")
    lost = row("list1")
    assert lost["state"] == "lost"
    assert "root cause: step 0.0, bank.pay (effect once, outcome unknown): attempt 1 was running" in read("show1")
    assert f"remit run --resume {lost['run'][:8]}" in read("show1")
    assert (read("rc2"), row("list2")["state"]) == ("0\n", "finished"), read("out2")
    assert "0.0   unknown  bank.pay account:ann" in read("out2")
    assert shop.effects == ["ann 5"]
