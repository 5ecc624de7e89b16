"""The format of trace files: every released format can be read and replayed; a newer format is refused with a message."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from remit.core.events import AnyEvent, RunResumed
from remit.replay.replayer import find_tampering, replay
from remit.tracing import read_trace
from remit.tracing.reader import READABLE_VERSIONS, VERSION
from remit.tracing.reports.verification import verify
from remit.workspace.bundle import open_bundle
from remit.workspace.template import starter_folder
from support import golden
from support.runs import Command

GOLDEN = starter_folder() / "traces" / "golden"
OF_WORKSPACE = {  # no run holds these
    "act.requested",
    "act.approved",
    "act.used",
    "key.created",
    "key.revoked",
    "access.refused",
    "passkey.enrolled",
    "passkey.confirmed",
    "passkey.revoked",
    "hold.set",
    "hold.lifted",
    "policy.adopted",
    "policy.published",
    "secret.set",
    "content.read",
    "decisions.given",
    "notification.begun",
    "notification.sent",
    "notification.failed",
    "alert.raised",
    "alert.closed",
    "run.erased",
    "run.pruned",
    "tool.failed",
    "tool.trial_started",
    "tool.recovered",
    "rollout.opened",
    "rollout.staged",
    "rollout.compared",
    "rollout.rolled_back",
    "rollout.finished",
    "evaluation.started",
    "evaluation.graded",
    "evaluation.finished",
}


def goldens(version: str) -> list[Path]:
    return sorted((GOLDEN / f"format-{version}").glob("*.jsonl"))


@pytest.mark.parametrize("version", READABLE_VERSIONS)
def test_every_format_that_was_ever_written_still_reads_verifies_and_replays(version: str) -> None:
    """The files were written by the version of Remit that made their format (`golden.py`). Released files never change."""
    assert goldens(version)
    for path in goldens(version):
        trace = read_trace(path)
        assert {span.version for span in trace.spans} == {version}
        assert verify(trace) == (), path
        books = {digest: open_bundle(files) for digest, files in trace.bundles().items()}
        found = asyncio.run(replay(trace.records, books, tampering=find_tampering(trace.faults(), trace.chain)))
        # After a person has accepted another definition, a replay under the first one ends.
        whole = not any(isinstance(item.event, RunResumed) and item.event.accepted for item in trace.records)
        assert (found.reproduced, found.complete) == (True, whole), (path, found.divergences)


def test_the_golden_traces_of_todays_format_hold_every_kind_of_event() -> None:
    """So a change of an event type is tested against a file that was written before the change."""
    written = {item.type for path in goldens(VERSION) for item in read_trace(path).records}
    kinds = {kind.model_fields["type"].default for kind in get_args(get_args(AnyEvent)[0])}
    assert written == kinds - OF_WORKSPACE
    assert READABLE_VERSIONS[-1] == VERSION


def test_the_script_that_recorded_the_golden_traces_still_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the script still works when the next format needs it."""
    monkeypatch.setattr(sys, "path", [*sys.path])  # a scene changes these of its process
    monkeypatch.setenv("LEDGER", "")
    monkeypatch.delitem(sys.modules, "ledger_host", raising=False)
    made = read_trace(golden.record(golden.approval_voided, tmp_path))
    assert verify(made) == ()
    assert {item.type for item in made.records} >= {"approval.refused", "approval.revoked", "approval.voided"}


def test_a_format_that_was_released_is_never_recorded_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also without a git repository: it cannot check then. A tag that is not a version is not a release."""
    assert golden.main(tmp_path) == 2  # no repository
    kept = tmp_path / golden.NAME / "a.jsonl"
    kept.parent.mkdir(parents=True)
    kept.write_text("{}\n")
    author = ("-c", "user.name=t", "-c", "user.email=t@example.com")
    for arguments in (["init", "-q"], ["add", "."], [*author, "commit", "-qm", "x"], ["tag", "before-broker"]):
        subprocess.run(["git", "-C", str(tmp_path), *arguments], check=True)
    assert golden.releases(tmp_path, golden.NAME) == []
    subprocess.run(["git", "-C", str(tmp_path), "tag", "v0.1.0"], check=True)
    assert golden.main(tmp_path) == 1
    assert "was released with v0.1.0" in capsys.readouterr().err
    assert kept.read_text() == "{}\n"


@pytest.mark.parametrize(
    ("old", "new"), [('\\"paid\\"', '\\"lent\\"'), ('\\"verdict\\":\\"ask\\"', '\\"verdict\\":\\"allow\\"')]
)
def test_a_golden_trace_that_is_forged_diverges(tmp_path: Path, command: Command, old: str, new: str) -> None:
    text = (GOLDEN / "format-1" / "rules-changed.jsonl").read_text()
    assert old in text
    forged = tmp_path / "forged.jsonl"
    forged.write_text(text.replace(old, new))
    done = command(tmp_path, "replay", str(forged))
    assert (done.code, "tampered" in done.out) == (1, True), done.out + done.err


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("approval-voided", "revoked by user:lea: I misread the amount"),
        ("approval-voided", "is void: "),
        ("answer-rejected", "the answer was rejected: "),
    ],
)
def test_a_revoked_or_void_approval_and_a_rejected_answer_are_shown(command: Command, name: str, message: str) -> None:
    """From the file alone, in the timeline and on the page."""
    assert message in command(GOLDEN, "trace", "show", str(GOLDEN / "format-1" / f"{name}.jsonl")).out


def test_a_file_of_a_later_format_says_which_and_what_to_do(tmp_path: Path, command: Command) -> None:
    text = (GOLDEN / "format-1" / "rules-changed.jsonl").read_text()
    later = tmp_path / "later.jsonl"
    later.write_text(text.replace('"remit.trace","version":"1"', '"remit.trace","version":"9"'))
    for asked in (["trace", "show"], ["trace", "verify"], ["replay"]):
        done = command(tmp_path, *asked, str(later))
        assert (done.code, done.out) == (2, "")
        assert "has format 9, and Remit 0.1.0 reads formats up to 1: use a newer version of Remit" in done.err
