"""What the documents show is what the commands say."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from remit.cli import COMMANDS
from remit.core.errors import CODES
from remit.workspace.template import starter_folder
from support.documents import ON_CALL, commands_of, help_of
from support.pages import pages
from support.runs import TASK, Remit

ROOT = starter_folder()
README = (ROOT / "README.md").read_text()
FOLDERS = ("tools/README.md", "policies/README.md", "traces/README.md", "CONTRIBUTING.md")
PAGES = [*(ROOT / name for name in FOLDERS), *pages()]


def test_the_two_set_up_commands_set_up_and_then_do_what_the_readme_says() -> None:
    """A dry run of make prints what a fresh machine's user and CI run."""
    block = README.split("## Set up")[1].split("```")[1]
    assert [line.split("#")[0].strip() for line in block.splitlines()[1:] if line] == ["$ make run", "$ make test"]
    env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}

    def dry_run(target: str) -> list[str]:
        done = subprocess.run(
            ["make", "--dry-run", target], cwd=ROOT, env=env, capture_output=True, text=True, check=True
        )
        return done.stdout.splitlines()

    assert dry_run("run")[:2] == ["python3 .ci/bootstrap.py", '.venv/bin/remit run triage "$TASK"']
    assert dry_run("test") == ["python3 .ci/bootstrap.py", ".venv/bin/python -m pytest -n auto -q "]
    assert (ROOT / ".ci/run").read_text().splitlines()[-1] == "make check"
    assert dry_run("check")[-2:] == dry_run("test")  # CI's last step is the README's test command


def test_the_commands_that_follow_the_first_run_work(remit: Remit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    made = remit("call", "files.read", '{"path": "runbooks/payments-pool.md"}', "--agent", "triage", "--json")
    block = README.split("Then:")[1].split("```")[1]
    commands = [shlex.split(line.removeprefix("$ "), comments=True) for line in block.splitlines() if "$ remit" in line]
    assert len(commands) >= 6
    for words in commands:
        result = remit(*[made.json["run"] if word == "RUN" else word for word in words[1:]])
        if "--model" in words:  # whose key is not here
            assert (result.code, "set OPENAI_API_KEY" in result.err) == (2, True), result.err
        else:
            assert result.code == 0, (words, result.out, result.err)


def test_the_page_on_results_lists_every_code_with_its_sentence() -> None:
    table = "| code | meaning |\n|---|---|\n" + "\n".join(f"| `{code}` | {text} |" for code, text in CODES.items())
    assert table in (ROOT / "docs" / "results.md").read_text()


def own_words(words: Sequence[str]) -> int:
    """How many words belong to Remit: after `uvx` or `npx` follow those of the program that starts a server."""
    return next((at for at, word in enumerate(words) if word in ("uvx", "npx")), len(words))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_that_a_page_names_exists_with_its_options(page: Path) -> None:
    for words in commands_of(page.read_text()):
        command = words[1]
        assert command in COMMANDS, words
        help_text = help_of(command)
        if "Commands:" in help_text and len(words) > 2:
            # An option right after a group is one of its default command, which any other name stands for.
            help_text = help_of(command, "NAME" if words[2].startswith("-") else words[2])
        if words[2:4] == ["import", "mcp"]:
            help_text = help_of(command, "import", "mcp")
        for word in words[2 : own_words(words)]:
            if word.startswith("-"):
                assert word in help_text, words


def test_the_commands_of_the_on_call_page_work_in_their_order(remit: Remit, session: Path) -> None:
    run = "00000000000000000000000000000abc"
    (session / "agent" / "triage" / "short.yaml").write_text("turns: [{say: it recovered by itself}]")
    assert (
        remit("run", "triage", TASK, "--model", "script:short.yaml").code == 0
    )  # an earlier good one, to compare with
    assert remit("run", "triage", TASK, "--run-id", run).code == 0
    shown_commands = [words for words in commands_of(ON_CALL) if words[1] in ("trace", "replay")]
    assert len(shown_commands) >= 6
    for words in shown_commands:
        result = remit(*[run if word == "RUN" else word for word in words[1:]])
        assert result.code == (1 if words[2] == "diff" else 0), (words, result.out, result.err)
    assert remit("replay", "incident.jsonl").code == 0
