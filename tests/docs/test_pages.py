"""Every page of docs/ can be followed: its files, its commands and what they print."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from remit.workspace.template import write_starter
from support import ROOT, TESTS
from support.page_files import body, files_of, with_files
from support.pages import EXAMPLES, Reader, begin, blocks_of, examples_of, pages, pattern_of
from support.runs import Command

ELSEWHERE = ("tested by", "not run")


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def followed() -> list[Path]:
    """The pages with at least one block to carry out."""
    return [page for page in pages() if any(block.mark[0] not in ELSEWHERE for block in blocks_of(page))]


@pytest.mark.usefixtures("trusting")
@pytest.mark.parametrize("page", followed(), ids=name_of)
def test_a_reader_who_follows_a_page_sees_what_it_shows(page: Path, tmp_path: Path, command: Command) -> None:
    reader = Reader(begin(page, tmp_path / "w"), command)
    for block in blocks_of(page):
        if block.mark[0] not in ELSEWHERE:
            reader.follow(block)


def test_every_block_that_is_not_followed_names_its_test_or_the_reason() -> None:
    written = {name for path in TESTS.rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())}
    for page in pages():
        for block in blocks_of(page):
            kind, text = block.mark
            assert kind in ("", "as", "file", "workspace", *ELSEWHERE), (name_of(page), block.line, kind)
            assert kind != "tested by" or text in written, (name_of(page), block.line, text)
            assert kind != "not run" or len(text) > 20, (name_of(page), block.line, text)


def test_every_example_file_is_on_a_page() -> None:
    shown = "".join(page.read_text() for page in pages())
    files = [
        path for path in EXAMPLES.rglob("*") if path.is_file() and not {"__pycache__", ".mypy_cache"} & set(path.parts)
    ]
    assert len(files) >= 5
    names = {path: path.relative_to(EXAMPLES).as_posix() for path in files}
    assert [name for path, name in names.items() if path.read_text() not in shown] == []


def test_a_block_with_the_name_of_a_file_is_the_text_of_that_file() -> None:
    shown = [(name_of(page), name, text) for page in pages() for name, text in files_of(page.read_text())]
    assert len(shown) >= 25
    changed = [f"{page}: {name}" for page, name, text in shown if text != body(name)]
    assert changed == [], "write the files into the pages again: python tests/support/page_files.py --write"
    marks = sum(block.mark[0] == "file" for page in pages() for block in blocks_of(page))
    assert marks == len(shown)


def test_a_block_that_differs_from_its_file_is_found_and_is_written_again() -> None:
    text = (ROOT / "docs/langchain.md").read_text()
    edited = text.replace("def refund", "def pay", 1)
    assert with_files(text) == text != edited
    assert [name for name, shown in files_of(edited) if shown != body(name)] == ["examples/shop/shop.py"]
    assert with_files(edited) == text


def test_every_python_file_of_a_page_is_an_example_that_is_type_checked() -> None:
    """mypy and pyright read `docs/examples`; the Python of a page is the text of a file there."""
    examples = [path.read_text().strip() for path in EXAMPLES.rglob("*.py")]
    for page in pages():
        for block in blocks_of(page):
            if block.file.endswith(".py"):
                assert block.text.strip() in examples, (name_of(page), block.line)


def test_every_test_that_a_page_names_exists() -> None:
    written = {name for path in TESTS.rglob("test_*.py") for name in re.findall(r"def (test_\w+)", path.read_text())}
    for page in pages():
        named = re.findall(r"`(test_\w+)`", page.read_text())
        assert [name for name in named if name not in written] == [], name_of(page)
    assert len(re.findall(r"`test_\w+`", (ROOT / "docs" / "demo-to-production.md").read_text())) >= 40


def test_every_link_of_a_page_leads_to_a_file() -> None:
    """The reference is generated when the site is built, so no page links to it by a file."""
    for page in [*pages(), *(ROOT / folder / "README.md" for folder in ("tools", "policies", "traces"))]:
        links = re.findall(r"\]\((?!https?://)([^)#\s]+)", page.read_text())
        assert [link for link in links if not (page.parent / link).exists()] == [], name_of(page)


def test_a_starter_workspace_names_pages_that_it_does_not_have_and_links_to_none(tmp_path: Path) -> None:
    write_starter(tmp_path / "w")
    for readme in (tmp_path / "w").rglob("*.md"):
        links = re.findall(r"\]\((?!https?://)([^)#\s]+)", readme.read_text())
        assert [link for link in links if not (readme.parent / link).exists()] == [], readme
    assert "Write a tool (`docs/how-to/write-a-tool.md` of Remit)" in (tmp_path / "w/tools/README.md").read_text()


def test_a_page_that_shows_something_else_fails(tmp_path: Path, command: Command) -> None:
    """The check can fail: by another output, by a failed command without output, and by a change that does not fit."""
    page = tmp_path / "page.md"
    for text in (
        "```console\n$ echo one\ntwo\n```",
        "```console\n$ false\n```",
        "```console\n$ remit --version\nremit, version 9\n```",
        "```console\n$ remit --version | cat\nremit, version 9\n```",
        "```console\n$ remit no-such-command > out.txt\n```",
        '```diff title="a.txt"\n-absent\n+present\n```',
    ):
        page.write_text(f'```text title="a.txt"\nfirst\n```\n\n{text}\n')
        first, second = blocks_of(page)
        reader = Reader(tmp_path, command)
        reader.follow(first)
        with pytest.raises(AssertionError, match="line 5"):
            reader.follow(second)


def test_a_pipe_and_a_file_get_what_a_command_prints(tmp_path: Path, command: Command) -> None:
    page = tmp_path / "page.md"
    shown = "$ remit check --help | grep -c Usage\n1\n$ remit --version > out.txt\n$ cat out.txt\nremit, version …\n"
    page.write_text(f"```console\n{shown}```\n")
    Reader(tmp_path, command).follow(*blocks_of(page))


def test_an_ellipsis_is_a_part_of_a_line_and_alone_any_lines() -> None:
    assert pattern_of("run …\n…\ndone").fullmatch("run 3f\na\nb\ndone")
    assert pattern_of("run …\n…\ndone").fullmatch("run 3f\na\ndone")
    assert not pattern_of("run …\ndone").fullmatch("run 3f\na\ndone")
    assert not pattern_of("run …").fullmatch("run ")


def test_a_command_that_is_continued_is_one_command(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```console\n$ remit run triage \\\n    task\nrun …\n$ remit check\n```\n")
    (block,) = blocks_of(page)
    assert [example.command.split() for example in examples_of(block)] == [
        ["remit", "run", "triage", "task"],
        ["remit", "check"],
    ]
