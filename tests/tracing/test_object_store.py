"""The rules of a run: stored by digest, exported into one file, and checked when they are read."""

from __future__ import annotations

import base64
import hashlib
import json
import stat
from pathlib import Path

import pytest

from remit.core.errors import RunEnded, UsageError, WorkspaceError
from remit.core.events import AnyEvent, RunFinished, RunResumed
from remit.journal import open_journal
from remit.tracing import ObjectStore, Trace, open_trace, read_trace, write_portable
from support.events import RUN, append, started, turn
from support.principals import principal

FILES = {
    "remit.toml": b'env = "local"\n',
    "policies/rules.csv": "# ünï\np, agent:triage, *, **, , allow\n".encode(),
    "policies/tools.lock": b"\x00\xff not text",
    "agent/triage/prompt.md": b"",
}
LATER = {**FILES, "policies/rules.csv": b"p, agent:triage, files.*, **, , allow\n"}


@pytest.fixture
def trace(tmp_path: Path) -> Trace:
    """A run that was resumed under other rules, in a workspace with its objects."""
    folder = tmp_path / "traces"
    objects = ObjectStore(folder / "objects")
    first, second = objects.put_bundle(FILES), objects.put_bundle(LATER)
    events: list[AnyEvent] = [
        started(bundle=first),
        RunResumed(count=1, by=principal("ann"), bundle=second, policy_digest="p"),
        *turn(0),
        RunFinished(outcome="completed", answer="done"),
    ]
    with open_journal(folder / "journal.db") as journal:
        for event in events:
            append(journal, RUN, event)
        return open_trace(folder, journal, RUN)


def test_an_object_is_found_by_its_digest_and_checked(tmp_path: Path) -> None:
    """Content decides the name, so the same content is kept once, and a changed one is refused."""
    objects = ObjectStore(tmp_path / "objects")
    digest = objects.put(b"hello")
    assert digest == "sha256:" + hashlib.sha256(b"hello").hexdigest() == objects.put(b"hello")
    assert objects.get(digest) == b"hello"
    (file,) = (tmp_path / "objects").iterdir()
    assert file.name == digest.removeprefix("sha256:")
    file.write_bytes(b"hullo")
    with pytest.raises(UsageError, match="was changed after it was stored"):
        objects.get(digest)
    file.unlink()
    with pytest.raises(UsageError, match="there is no object"):
        objects.get(digest)


def test_only_its_owner_can_read_an_object(tmp_path: Path) -> None:
    """Prompts and rules are the workspace's own."""
    ObjectStore(tmp_path / "traces" / "objects").put(b"hello")
    (file,) = (tmp_path / "traces" / "objects").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("digest", ["../../etc/passwd", "sha256:../../x", "sha256:" + "0" * 63, "", "md5:" + "0" * 64])
def test_a_text_that_is_not_a_digest_never_becomes_a_path(tmp_path: Path, digest: str) -> None:
    """A digest can come from a trace file of anyone."""
    with pytest.raises(UsageError, match="is not the digest of an object"):
        ObjectStore(tmp_path).get(digest)


def test_a_store_that_cannot_be_written_ends_the_run(tmp_path: Path) -> None:
    """A run whose rules cannot be kept could never be replayed."""
    (tmp_path / "objects").write_text("a file in its place")
    with pytest.raises(RunEnded, match="unrecorded"):
        ObjectStore(tmp_path / "objects").put(b"hello")


def test_a_bundle_is_read_back_file_by_file(tmp_path: Path) -> None:
    """Two bundles share their equal files."""
    objects = ObjectStore(tmp_path)
    first, second = objects.put_bundle(FILES), objects.put_bundle(LATER)
    assert objects.get_bundle(first) == FILES
    assert objects.get_bundle(second) == LATER
    assert len(list(tmp_path.iterdir())) == len(FILES) + 1 + 2
    with pytest.raises(UsageError, match="that Remit did not write"):
        objects.get_bundle(objects.put(b"[1]"))


def test_a_portable_file_contains_the_run_and_all_its_rules(trace: Trace, tmp_path: Path) -> None:
    """Nothing else is needed to read it, verify it and load its rules; also binary and empty files."""
    path = tmp_path / "elsewhere" / "incident.jsonl"
    path.parent.mkdir()
    write_portable(trace, path)
    copy = read_trace(path)
    assert copy.store is None
    assert copy.records == trace.records
    assert copy.faults() == ()
    assert list(copy.bundles().values()) == [FILES, LATER]
    assert copy.bundles() == trace.bundles()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_portable_file_exported_again_is_the_same_file(trace: Trace, tmp_path: Path) -> None:
    """Byte for byte, so that a trace can be handed on."""
    write_portable(trace, tmp_path / "one.jsonl")
    write_portable(read_trace(tmp_path / "one.jsonl"), tmp_path / "two.jsonl")
    assert (tmp_path / "one.jsonl").read_bytes() == (tmp_path / "two.jsonl").read_bytes()


def test_the_bundle_is_one_more_span_of_the_same_trace(trace: Trace, tmp_path: Path) -> None:
    """A viewer shows it below the run."""
    write_portable(trace, tmp_path / "one.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "one.jsonl").read_bytes().split(b"\n")[:-1]]
    found = [line["resourceSpans"][0]["scopeSpans"][0]["spans"][0] for line in lines]
    assert [span["name"] for span in found].count("remit.bundle") == 1
    assert (found[-1]["traceId"], found[-1]["parentSpanId"]) == (RUN, found[0]["spanId"])


def test_a_changed_rule_in_a_portable_file_is_refused(trace: Trace, tmp_path: Path) -> None:
    """A replay uses other rules than the recorded ones only if the user asks for it."""
    path = tmp_path / "one.jsonl"
    write_portable(trace, path)
    path.write_bytes(path.read_bytes().replace(b"files.*", b"files.r"))
    with pytest.raises(WorkspaceError, match="does not match its digest"):
        read_trace(path)
    write_portable(trace, path)
    packed = base64.b64encode(FILES["policies/tools.lock"])
    path.write_bytes(path.read_bytes().replace(packed, b"!!!!" + packed[4:]))
    with pytest.raises(WorkspaceError, match="the line is not a complete span"):
        read_trace(path)


def test_a_trace_without_its_rules_can_be_read_but_not_replayed(trace: Trace, tmp_path: Path) -> None:
    """It is not replayed with today's rules instead."""
    write_portable(trace, tmp_path / "one.jsonl")
    lines = (tmp_path / "one.jsonl").read_bytes().split(b"\n")
    (tmp_path / "two.jsonl").write_bytes(b"\n".join(lines[:-2]) + b"\n")
    bare = read_trace(tmp_path / "two.jsonl")
    assert bare.records == trace.records
    with pytest.raises(UsageError, match="with `remit trace export`"):
        bare.bundles()
    with pytest.raises(UsageError, match="does not contain the object"):
        write_portable(bare, tmp_path / "three.jsonl")
    assert not (tmp_path / "three.jsonl").exists()


def test_a_portable_file_that_cannot_be_written_says_so(trace: Trace, tmp_path: Path) -> None:
    """One line, and nothing half-written left behind."""
    with pytest.raises(UsageError, match="cannot be written"):
        write_portable(trace, tmp_path / "nowhere" / "one.jsonl")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="cannot be written"):
        write_portable(trace, tmp_path / "folder")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "traces"]
