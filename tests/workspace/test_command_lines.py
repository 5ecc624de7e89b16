"""The command line of a tool: typed arguments, optional groups, and no value of a model that becomes an option or another argument."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remit.core.errors import Refusal, WorkspaceError
from remit.workspace.manifest.manifest import Action, parse_manifest
from remit.workspace.manifest.resolution import command_schema, fill_argv, resolve
from remit.workspace.manifest.sections.command import Argument, Part, placeholder

FILE = "tools/history/tool.toml"
LOG = """\
name = "history"
version = "1"
owner = "a@b.c"
summary = "s"
source = "command"
[always]
programs = ["git"]
[at_most]
read = ["src/**"]
[actions.log]
summary = "s"
touches = ["read file:{path}"]
effect = "read"
run = ["git", "log", "--max-count={count}", ["--since={since}"], ["-G", "{text}"], "{stat}", "--format={format}", "--", "{path}"]
[actions.log.args]
count = { type = "integer", min = 1, max = 100, default = 10, description = "How many commits" }
since = { pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$", description = "The first day" }
stat = { type = "boolean", flag = "--stat" }
format = { enum = ["oneline", "full"], default = "oneline" }
"""


def log(text: str = LOG) -> Action:
    return parse_manifest(text, file=FILE).actions["log"]


def argv(arguments: dict[str, Any], text: str = LOG) -> list[str]:
    """The argv of a call, whose arguments are checked and completed as in a run."""
    manifest = parse_manifest(text, file=FILE)
    action = manifest.actions["log"]
    resolved, _ = resolve(manifest, action, command_schema(action), arguments)
    return list(fill_argv(action, resolved))


def test_the_model_sees_types_ranges_choices_defaults_and_descriptions() -> None:
    assert command_schema(log()).input == {
        "type": "object",
        "properties": {
            "count": {
                "type": "integer",
                "minimum": 1,
                "maximum": 100,
                "description": "How many commits",
                "default": 10,
            },
            "since": {"type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}$", "description": "The first day"},
            "text": {"type": "string"},
            "stat": {"type": "boolean", "default": False},
            "format": {"type": "string", "enum": ["oneline", "full"], "default": "oneline"},
            "path": {"type": "string"},
        },
        "required": ["path"],
        "additionalProperties": False,
    }


def test_a_call_gives_what_it_needs_and_a_group_without_its_argument_is_left_out() -> None:
    assert argv({"path": "src/a"}) == ["git", "log", "--max-count=10", "--format=oneline", "--", "src/a"]
    every = {"path": "src/a", "count": 3, "since": "2026-11-01", "text": "pool", "stat": True, "format": "full"}
    assert argv(every) == (
        ["git", "log", "--max-count=3", "--since=2026-11-01", "-G", "pool", "--stat", "--format=full", "--", "src/a"]
    )
    assert argv({"path": "src/a", "stat": False}) == argv({"path": "src/a"})
    number = LOG.replace('type = "integer", min = 1', 'type = "number", min = -1')
    assert argv({"path": "src/a", "count": -0.5}, number)[2] == "--max-count=-0.5"
    assert argv({"path": "src/a", "count": 2.0}, number)[2] == "--max-count=2"


@pytest.mark.parametrize(
    "arguments",
    [
        {"count": 0},
        {"count": 101},
        {"count": "3"},
        {"count": 1.5},
        {"since": "yesterday"},
        {"format": "Full"},
        {"stat": "yes"},
        {"other": 1},
        {"path": "src/../../etc"},
        {"text": None},
        {"text": "--output=src/x"},
        {"text": "-x"},
        {"text": "a\0b"},
    ],
)
def test_a_value_of_another_type_or_one_that_would_be_an_option_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as refused:
        argv({"path": "src/a", **arguments})
    assert refused.value.code == "invalid_arguments"


def test_behind_two_dashes_and_behind_an_option_in_the_same_element_a_dash_is_text() -> None:
    line = LOG.replace('["-G", "{text}"]', '["--grep={text}"]').replace("[actions.log.args]", "[actions.log.args]")
    assert "--grep=--output=x" in argv({"path": "src/a", "text": "--output=x"}, line)
    behind = LOG.replace('["-G", "{text}"], ', "").replace('"{path}"]', '"{path}", ["{text}"]]')
    assert argv({"path": "src/a", "text": "--output=x"}, behind)[-2:] == ["src/a", "--output=x"]


WRONG = [
    ('count = { type = "int"', "'actions.log.args.count.type'", ""),
    ('count = { type = "integer", mni = 1', "mni", "write 'min'"),
    ("cuont = {", "the argument 'cuont' is not in 'run'", 'write "{cuont}" in run; did you mean count?'),
    ('count = { type = "string", min = 1', "'min' is not for type = 'string'", "write type = 'number'"),
    (
        'count = { type = "integer", enum = ["a"], min = 1',
        "'enum' is not for type = 'integer'",
        "write type = 'string'",
    ),
    ('count = { type = "integer", min = 20', "the default is not a value of the argument", "write one that is"),
    ('count = { type = "integer", flag = "-n", min = 1', "no other type has one", "remove 'flag'"),
]


@pytest.mark.parametrize(("line", "what", "fix"), WRONG)
def test_a_wrong_argument_table_is_refused_at_its_line(line: str, what: str, fix: str) -> None:
    start = line.partition(" = {")[2] and 'count = { type = "integer", min = 1'
    text = LOG.replace(start if "type" in line else "count = {", line, 1)
    assert text != LOG
    with pytest.raises(WorkspaceError) as refused:
        parse_manifest(text, file=FILE)
    assert any(what in problem.what and fix in (problem.fix or "") for problem in refused.value.problems), refused.value
    assert all(problem.line for problem in refused.value.problems)


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"', 'pattern = "(?=a)b"', "cannot be matched in linear time"),
        ('flag = "--stat"', 'flag = "stat"', "is no option"),
        ('flag = "--stat"', 'flag = "--stat; rm"', "is no option"),
        (', flag = "--stat"', "", "need the option that true stands for"),
        ('enum = ["oneline", "full"], default = "oneline"', 'enum = ["-n"]', "which a program reads as an option"),
        ('default = "oneline"', 'default = "ful"', "the default is not a value"),
        ('["--since={since}"]', '["--since"]', "a group has no placeholder"),
        ('["--since={since}"]', '["--max={count}"]', "never left out: it has a default"),
        ('["--since={since}"]', '["{stat}", "--since={since}"]', "stands for its flag"),
        ('"{stat}"', '"--x={stat}"', "stands for its flag"),
        ('["--since={since}"]', '["-s{since}"]', "mixes a placeholder with text"),
        ('["--since={since}"]', '["{since}={text}"]', "mixes a placeholder with text"),
        ('["--since={since}"]', '[["--since={since}"]]', "run"),
        ('run = ["git", "log", ', 'run = [["git"], "log", ', "is not in 'always.programs'"),
        ('"{path}"]', '"src"]', "the placeholder 'path' is not in 'run'"),
    ],
)
def test_a_command_line_that_could_be_read_in_two_ways_is_refused(old: str, new: str, what: str) -> None:
    assert old in LOG
    with pytest.raises(WorkspaceError, match=what):
        parse_manifest(LOG.replace(old, new, 1), file=FILE)


def test_types_are_only_for_commands() -> None:
    text = LOG.replace('source = "command"\n', "").replace('programs = ["git"]', "programs = []")
    with pytest.raises(WorkspaceError, match="'args' is only for source = 'command'"):
        parse_manifest(text, file=FILE)


# -- whatever a model writes -------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "c"])
VALUES = st.text(max_size=12) | st.sampled_from(
    ["-", "--", "-x", "--out=x", "a b", "$(x)", "'", "", "./main.js", "{a}"]
)
ELEMENTS = st.one_of(
    st.sampled_from(["-v", "--", "log", "--all"]),
    NAMES.map(lambda name: f"{{{name}}}"),
    NAMES.map(lambda name: f"--opt={{{name}}}"),
)
GROUPS = st.lists(ELEMENTS, min_size=1, max_size=3).map(tuple)
RUNS = st.lists(ELEMENTS | GROUPS, max_size=8)


@given(run=RUNS, values=st.dictionaries(NAMES, VALUES))
def test_no_value_becomes_an_option_or_more_than_one_argument(run: list[Part], values: dict[str, str]) -> None:
    """Each element of argv is one element of the manifest; those of a value begin with a dash only where no options are read."""
    action = Action(name="x", summary="s", run=("prog", *run))
    try:
        filled = fill_argv(action, values)
    except Refusal:
        return
    written = [
        element
        for part in action.run
        for element in ((part,) if isinstance(part, str) else part)
        if isinstance(part, str) or all(values.get(name) is not None for name in named(part))
    ]
    assert len(filled) == len(written)
    options = True
    for element, made in zip(written, filled, strict=True):
        found = placeholder(element)
        if found is None:
            assert made == element
        else:
            assert made == f"{found[0]}{values[found[1]]}"
            assert not (options and made.startswith("-") and not found[0])
        options = options and made != "--"


def named(group: tuple[str, ...]) -> list[str]:
    return [found[1] for element in group if (found := placeholder(element)) is not None]


@given(value=st.booleans(), other=VALUES)
def test_true_stands_for_its_flag_and_for_nothing_else(value: bool, other: str) -> None:
    action = Action(name="x", summary="s", run=("prog", "{a}"), args={"a": Argument(type="boolean", flag="--all")})
    assert fill_argv(action, {"a": value}) == (("prog", "--all") if value else ("prog",))
    if other.startswith("-"):
        with pytest.raises(Refusal, match="may not start with '-'"):
            fill_argv(action, {"a": other})
