"""A manifest is read strictly: every problem is reported, with its line and its fix."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remit.core.calls import ResourceAccess
from remit.core.errors import Problem, WorkspaceError
from remit.core.parsing.file_patterns import covered
from remit.sandbox.egress.permissions import UrlPermission, parse_host
from remit.workspace.manifest.manifest import Limits, Retry, manifest_schema
from support import ROOT
from support.workspaces.manifests import COMMAND, FILE, WHOLE, parse

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy


def problems(text: str) -> tuple[Problem, ...]:
    with pytest.raises(WorkspaceError) as error:
        parse(text)
    assert all(problem.file == FILE for problem in error.value.problems)
    assert all(problem.fix for problem in error.value.problems)
    return error.value.problems


def lines(text: str) -> list[int | None]:
    return [problem.line for problem in problems(text)]


def changed(old: str, new: str) -> str:
    assert old in WHOLE
    return WHOLE.replace(old, new, 1)


def at(part: str, text: str) -> int:
    """The line, from 1, of a part of the text."""
    return text[: text.index(part)].count("\n") + 1


def test_a_manifest_has_what_its_author_wrote() -> None:
    manifest = parse(WHOLE)
    assert (manifest.name, manifest.version, manifest.owner) == ("files", "1.0.0", "platform@example.com")
    assert (manifest.read, manifest.write, manifest.stores) == (
        ("docs/**", "logs/*.txt"),
        ("reports/**",),
        ("tickets",),
    )
    assert (manifest.env, manifest.programs, manifest.host) == (("TZ",), (), "")
    assert manifest.limits == Limits(wall=1.5, cpu=2.0, memory=64 * 1024**2, output=64 * 1024)
    read, write = manifest.actions["read"], manifest.actions["write"]
    assert (read.effect, read.retry, read.adds_labels) == (
        "read",
        Retry(attempts=3, on=("timeout", "busy")),
        ("untrusted",),
    )
    assert (read.errors, write.errors) == (
        {"not_found": "", "busy": ""},
        {"not_text": "UnicodeDecodeError", "full": ""},
    )
    assert (write.effect, write.retry, write.adds_labels, write.run) == ("once", Retry(), (), ())
    assert [(each.access, each.kind, each.argument, each.constant) for each in write.templates] == [
        ("write", "file", "path", ""),
        ("write", "store", "", "tickets"),
        ("use", "service", "service", ""),
    ]


REACHING = WHOLE.replace("hosts = []", 'hosts = ["api.example.com:443"]').replace(
    'stores = ["tickets"]', 'stores = ["tickets"]\nhosts = ["**:443"]'
)


def test_a_manifest_says_which_hosts_and_urls_its_calls_reach() -> None:
    """Every call may reach the hosts; the URLs are those of one call, with the methods of its action."""
    manifest = parse(
        REACHING.replace(
            "secrets = []", 'secrets = [{name = "api", host = "api.example.com:443", header = "X", value = "k {api}"}]'
        )
        + '[actions.get]\nsummary = "s"\ntouches = ["use url:{url}"]\neffect = "read"\nmethods = ["GET"]\n'
    )
    touches = [ResourceAccess(access="use", resource="https://www.example.com/a")]
    network = manifest.network(manifest.actions["get"], touches)
    assert network is not None
    assert network.urls == (
        UrlPermission(scheme="https", name="www.example.com", port=443, path="/a", methods=("GET",)),
    )
    assert (network.hosts, network.at_most) == ((parse_host("api.example.com:443"),), (parse_host("**:443"),))
    assert manifest.credentials[0].render("12345678") == "k 12345678"
    assert manifest.network(manifest.actions["read"], []) == network.model_copy(
        update={"urls": (), "at_most": (), "methods": ()}
    )
    assert parse(WHOLE).network(manifest.actions["read"], []) is None


@pytest.mark.parametrize(
    ("action", "what"),
    [
        ("methods = []", "has no 'methods'"),
        ('methods = ["GET", "POST"]\neffect = "read"', "'methods' has POST"),
        ('methods = ["POST"]\neffect = "idempotent"', "a POST usually is not"),
        ('methods = ["POST"]\neffect = "keyed"', "no header is named for the key"),
        ('methods = ["FETCH"]', "'actions.get.methods.0' is 'FETCH'"),
    ],
)
def test_an_action_with_urls_needs_methods_that_fit_its_effect(action: str, what: str) -> None:
    """A POST has effect "once", unless the manifest names the header by which its server recognizes a repetition."""
    text = REACHING + f'[actions.get]\nsummary = "s"\ntouches = ["use url:{{url}}"]\n{action}\n'
    (problem,) = problems(text)
    assert what in problem.what
    keyed = 'methods = ["POST"]\neffect = "keyed"\nidempotency_header = "Idempotency-Key"'
    assert parse(text.replace(action, keyed)).actions["get"].idempotency_header == "Idempotency-Key"


@pytest.mark.parametrize(
    ("line", "inside", "outside"),
    [
        ("example.com:443", ["example.com:443"], ["www.example.com:443", "notexample.com:443", "example.com:80"]),
        ("*.example.com:443", ["a.example.com:443"], ["example.com:443", "a.b.example.com:443", "a-example.com:443"]),
        ("**.example.com:443", ["a.example.com:443", "a.b.example.com:443"], ["example.com:443", "xexample.com:443"]),
        ("**:443", ["a:443", "a.b.c:443"], ["a:80"]),
    ],
)
def test_a_line_of_hosts_matches_whole_labels(line: str, inside: list[str], outside: list[str]) -> None:
    """B9: a line never matches a mere suffix of a name, nor the domain itself for a wildcard below it."""
    host = parse_host(line)
    places = {place: place.rpartition(":") for place in (*inside, *outside)}
    assert [place for place, (name, _, port) in places.items() if host.covers(name, int(port))] == inside


def test_an_absent_scope_allows_nothing_and_limits_have_defaults() -> None:
    manifest = parse('name = "a"\nversion = "1"\nowner = "a@b.c"\nsummary = "s"\n[actions.run]\nsummary = "s"\n')
    assert manifest.source == "python"
    assert (manifest.read, manifest.write, manifest.stores, manifest.env, manifest.programs) == ((), (), (), (), ())
    assert manifest.limits == Limits(wall=5.0, cpu=2.0, memory=256 * 1024**2, output=64 * 1024)


def test_a_comment_does_not_change_the_digest_and_a_word_does() -> None:
    assert parse("# reviewed\n" + WHOLE.replace(" = ", "  =  ")).digest == parse(WHOLE).digest
    assert parse(changed("logs/*.txt", "logs/*.log")).digest != parse(WHOLE).digest


def test_every_problem_is_reported_on_its_line() -> None:
    text = (
        WHOLE.replace('version = "1.0.0"', "version = 1")
        .replace("docs/**", "**")
        .replace('"64MiB"', '"1MiB"')
        .replace('effect = "read"', 'efect = "read"')
        .replace('"write store:tickets"', '"write store:orders"')
        .replace('"use service:{service}"', '"use service:{service"')
    )
    found = problems(text + "\n[actions.more]\n")
    assert [(problem.line, problem.what.partition(",")[0]) for problem in found] == [
        (2, "'version' is 1"),
        (14, "'at_most.read.0' is not valid: '**' matches every file"),
        (20, "'limits.memory' is '1MiB'"),
        (25, "unknown key 'actions.read.efect'"),
        (32, "'actions.write.touches.2' is not valid: 'use service:{service' has an unknown placeholder"),
        (35, "the key 'actions.more.summary' is missing"),
    ]


def test_problems_between_keys_are_reported_with_all_others() -> None:
    text = changed('version = "1.0.0"', "version = 1").replace('effect = "read"', 'effect = "once"')
    assert [(problem.line, problem.what) for problem in problems(text)] == [
        (2, "'version' is 1"),
        (26, "'retry' on an action with effect 'once' could execute it twice"),
    ]


def test_an_unknown_key_is_answered_with_the_nearest_one() -> None:
    (problem,) = problems(changed("wall =", "wal ="))
    assert (problem.line, problem.what, problem.fix) == (19, "unknown key 'limits.wal'", "write 'wall'")
    (problem,) = problems("colour = 1\n" + WHOLE)
    assert problem.fix.startswith("remove it; possible keys are name, version")


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('name = "files"', 'name = "Files"', "not a name"),
        ('name = "files"', 'name = "re__ad"', "not a name"),
        ('name = "files"', 'name = "read_"', "not a name"),
        ('name = "files"', 'name = "remit"', "not a name"),
        ('name = "files"', f'name = "{"a" * 32}"', "not a name"),
        ("[actions.write]", "[actions.wri__te]", "not a name"),
        ("[actions.write]", '[actions."a b"]', "not a name"),
        ("platform@example.com", "platform", "not a mail address"),
        ('summary = "Read and write text files"', 'summary = ""', "not one line"),
        ('summary = "Read and write text files"', 'summary = "a\\nb"', "not one line"),
        ('source = "python"', 'source = "pyton"', "'source' is 'pyton'"),
        ('source = "python"', 'source = "host"', "the key 'host' is missing"),
        ('source = "python"', 'host = "a.b:c"', "only for source"),
        ('source = "python"', 'source = "host"\nhost = "no entry"', "not an entry"),
        ("hosts = []", 'hosts = ["api.example.com"]', "not a host and port"),
        ("hosts = []", 'hosts = ["10.0.0.1:443"]', "is not a name"),
        ("hosts = []", 'hosts = ["[::1]:443"]', "not a host and port"),
        ("hosts = []", 'hosts = ["API.example.com:443"]', "is not a name"),
        ("hosts = []", 'hosts = ["*:443"]', "is not a name"),
        ("hosts = []", 'hosts = ["api.*.com:443"]', "is not a name"),
        ("hosts = []", 'hosts = ["api.example.com:70000"]', "not a host and port"),
        ("hosts = []", 'hosts = ["FETCH api.example.com:443"]', "unknown method"),
        ("hosts = []", 'hosts = ["GET api.example.com:443/a/../b"]', "not a canonical pattern"),
        ("hosts = []", 'ranges = ["0.0.0.0/0"]', "no manifest can grant"),
        ("hosts = []", 'ranges = ["169.254.0.0/16"]', "no manifest can grant"),
        ("hosts = []", 'ranges = ["10.0.0.1/8"]', "not a range"),
        ("secrets = []", 'secrets = [{name = "a", host = "b:1", header = "c"}]', "has no host, header or value"),
        ("secrets = []", 'secrets = [{name = "a", host = "b:1", header = "c", value = "d"}]', "must contain {a} once"),
        ("secrets = []", 'secrets = [{name = "a", host = "b:1", header = "c", value = "{a}"}]', "not in 'always.hosts'"),
        ("secrets = []", 'secrets = [{name = "a", host = "b:1", header = "Host", value = "{a}"}]', "the proxy cannot set"),
        ("secrets = []", 'secrets = [{name = "a", exposed = true}]', "needs 'env'"),
        ("secrets = []", 'secrets = [{name = "a", exposed = true, env = "HTTP_PROXY"}]', "is used twice, or by the sandbox"),
        ('wall = "1500ms"', 'sent = "65MiB"', "more than the proxy can buffer"),
        ('"read file:{path}"', '"use url:{path}"', "'at_most.hosts' is empty"),
        ('summary = "Read one text file"', 'summary = "s"\nmethods = ["GET"]', "only for an action that touches a URL"),
        ('summary = "Read one text file"', 'summary = "s"\nidempotency_header = "X"', "only for effect = 'keyed'"),
        ('env = ["TZ"]', 'env = ["a b"]', "not a variable"),
        ('env = ["TZ"]', 'env = "TZ"', "'always.env' is 'TZ'"),
        ("programs = []", 'programs = ["/bin/sh"]', "not a program"),
        ('"docs/**"', '"/**"', "matches every file"),
        ('"docs/**"', '"/etc/**"', "not a pattern"),
        ('"docs/**"', '"*/**"', "matches every file"),
        ('"docs/**"', '"**/*"', "matches every file"),
        ('"docs/**"', '"../docs/**"', "not a pattern"),
        ('"docs/**"', '"docs/**x"', "not a pattern"),
        ('"docs/**"', '"docs//x"', "not a pattern"),
        ('"docs/**"', '"docs/{a,b}"', "not a pattern"),
        ('"reports/**"', '"./reports/**"', "not a pattern"),
        ('"1500ms"', '"1.5"', "not a duration"),
        ('"1500ms"', '"0s"', "not a duration"),
        ('"1500ms"', '"-1s"', "not a duration"),
        ('"1500ms"', "5", "'limits.wall' is 5"),
        ('"64MiB"', '"64MB"', "not a size"),
        ('"64MiB"', '"63MiB"', "too little"),
        ('"read file:{path}"', '"file:{path}"', "not an access to a resource"),
        ('"read file:{path}"', '"read  file:{path}"', "not an access to a resource"),
        ('"read file:{path}"', '"use file:{path}"', "cannot use a file"),
        ('"read file:{path}"', '"read table:{path}"', "cannot read a table"),
        ('"read file:{path}"', '"read file:{path}.txt"', "unknown placeholder"),
        ('"read file:{path}"', '"read file:{path:sql}"', "unknown placeholder"),
        ('"read file:{path}"', '"use table:{path:csv}"', "unknown placeholder"),
        ('"read file:{path}"', '"use service:{path}/**"', "is a set"),
        ('"read file:{path}"', '"use none:x"', "'none'"),
        ('"read file:{path}"', '"read file:../x"', "not the name of one file"),
        ('"read file:{path}"', '"read file:./docs/x"', "canonical"),
        ('"read file:{path}"', '"read file:etc/passwd"', "not in 'at_most.read'"),
        ('"read file:{path}"', '"read file:logs/**"', "not in 'at_most.read'"),
        ('"read file:{path}"', '"use service:a/b"', "not the name of one service"),
        ('"read file:{path}"', '"read file:{idempotency_key}"', "Remit fills in 'idempotency_key'"),
        ('"read file:{path}"', '"read file:{path}", "use id:{path}"', "names resources of two kinds"),
        ('"read file:{path}"', '"use id:{path/*/x}", "use key:{path/*/x}"', "'path/*/x' names resources of two kinds"),
        ('"read file:{path}"', '"read file:{path/x}"', "inside of an argument"),
        ('"read file:{path}"', '"use table:{path/x:sql}"', "inside of an argument"),
        ('"read file:{path}"', '"use id:{path/}"', "unknown placeholder"),
        ('"write file:{path}"', '"write file:{path}/**"', "is a set"),
        ('"write store:tickets"', '"write store:{path}"', "by an argument"),
        ('"write store:tickets"', '"write store:orders"', "not in 'at_most.stores'"),
        ('write = ["reports/**"]', "write = []", "may write files, and 'at_most.write' is empty"),
        ('effect = "read"', 'effect = "reads"', "'actions.read.effect' is 'reads'"),
        ('effect = "read"', 'effect = "read"\nremoves_labels = ["untrusted"]', "but the action removes labels"),
        ('effect = "read"', 'effect = "idempotent"\npassages = "items/*"', "'passages' on an action with effect"),
        ('effect = "read"', 'effect = "read"\npassages = "items/{*}"', "not a path into the result"),
        ('effect = "read"', 'effect = "once"', "could execute it twice"),
        ("attempts = 3", "attempts = 0", "'actions.read.retry.attempts' is 0"),
        ("attempts = 3", "attempts = 99", "'actions.read.retry.attempts' is 99"),
        ("attempts = 3", "attempts = true", "'actions.read.retry.attempts' is true"),
        ('on = ["timeout", "busy"]', 'on = ["timeout", "bussy"]', "which is not in 'errors'"),
        ('errors = ["not_found", "busy"]', 'errors = ["not_found", "busy", "Bad"]', "not a name"),
        ('errors = ["not_found", "busy"]', 'errors = ["busy", "timeout"]', "a code of Remit"),
        ('errors = ["not_found", "busy"]', 'errors = "busy"', "'actions.read.errors' is 'busy'"),
        ('"UnicodeDecodeError"', '"Exception"', "every error"),
        ('"UnicodeDecodeError"', '"a.b"', "not an exception class"),
        ('adds_labels = ["untrusted"]', 'adds_labels = ["Un trusted"]', "not a label"),
        ('summary = "Write one text file"', 'summary = "s"\nrun = ["jq"]', "only for source = 'command'"),
        ('summary = "Write one text file"', 'summary = "Write \u202eelif eno"', "'actions.write.summary' has an invisible character U+202E"),
        ('summary = "Write one text file"', 'summary = "Write \\U000e0049t"', "'actions.write.summary' has an invisible character U+E0049"),
        ('touches = ["write file', 'effect = "read"\ntouches = ["write file', "but the action writes"),
    ],
)  # fmt: skip
def test_each_invalid_key_of_a_manifest_is_one_problem_on_its_line(old: str, new: str, what: str) -> None:
    text = changed(old, new)
    found = problems(text)
    assert len(found) == 1, found
    assert what in found[0].what
    assert "\n" not in found[0].what + found[0].fix
    near = range(at(new, text), at(new, text) + new.count("\n") + 2)  # a retry stands on the line after its effect
    assert found[0].line in near or (new, found[0].line) == ("write = []", at("write file", text))


def test_a_tool_without_actions_is_refused() -> None:
    head = WHOLE[: WHOLE.index("[actions.read]")]
    assert [problem.what for problem in problems(head)] == ["the key 'actions' is missing"]
    assert [problem.what for problem in problems(head + "[actions]\n")] == ["the tool has no actions"]


@pytest.mark.parametrize(
    ("text", "line"),
    [("name = ", 1), ('a = 1\nb = "x\n', 2), ("a = 1\na = 2\n", 2), ("[a]\n[b\n", 2), ('x = """\nnever closed\n', 3)],
)
def test_invalid_toml_is_reported_with_its_line(text: str, line: int) -> None:
    (problem,) = problems(text)
    assert problem.what.startswith("not valid TOML: ")
    assert problem.line == line


def test_a_problem_is_reported_on_its_line_in_every_layout() -> None:
    text = """\
name = "files"
version = "1"
owner = "a@b.c"
summary = '''
[limits]
wall = "no"'''
at_most.read = [
  "docs/**",  # ] not the end
  "/etc/**",
]
limits = { cpu = "2s", wall = "never" }
[actions."read"]
summary = "s"
touches = [ "read file:{path}",
  # a comment
  "nonsense" ]
errors = [
"a", "B"]
"""
    assert lines(text) == [4, 9, 11, 16, 18]


def test_a_command_tool_has_its_program_and_arguments() -> None:
    assert parse(COMMAND).actions["find"].run == ("grep", "-n", "--", "{text}", "{path}")


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('run = ["grep", "-n", "--", "{text}", "{path}"]\n', "", "has no 'run'"),
        ('"-n"', '"-f{text}"', "mixes a placeholder with text"),
        ('programs = ["grep"]', 'programs = ["sed"]', "not in 'always.programs'"),
        ('"{path}"]\n', '"x"]\n', "the placeholder 'path' is not in 'run'"),
        ('run = ["grep"', 'run = ["{text}"', "not in 'always.programs'"),
        ('"-n"', '"./../main.js"', "is not the name of one file"),
        ('"-n"', '"./"', "is not the name of one file"),
    ],
)
def test_a_command_that_cannot_be_filled_is_refused(old: str, new: str, what: str) -> None:
    assert old in COMMAND
    (problem,) = problems(COMMAND.replace(old, new))
    assert what in problem.what
    assert problem.line is not None


@UNHURRIED
@given(st.text(max_size=80) | st.text(alphabet="[]{}=\".# \n'abnme,1", max_size=60))
def test_no_text_makes_reading_a_manifest_fail_in_another_way(text: str) -> None:
    with pytest.raises(WorkspaceError):
        parse(text)


@UNHURRIED
@given(st.data())
def test_a_manifest_with_any_value_anywhere_is_read_or_its_problems_are_reported(data: st.DataObject) -> None:
    """With any value in any place, the result is a manifest, or problems with fixes."""
    values = st.sampled_from(["1", "true", '"x"', "[]", "{}", '["x"]', "[1]", "{ x = 1 }", "2020-01-01", "1.5", "[[]]"])
    rows = WHOLE.split("\n")
    keyed = [number for number, row in enumerate(rows) if " = " in row]
    for number in data.draw(st.sets(st.sampled_from(keyed), max_size=4)):
        rows[number] = f"{rows[number].partition(' = ')[0]} = {data.draw(values)}"
    reported: tuple[Problem, ...] | None = None
    try:
        parse("\n".join(rows))
    except WorkspaceError as error:
        reported = error.problems
    assert reported is None or (reported and all(problem.fix and problem.line for problem in reported))


# -- patterns ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "inside", "outside"),
    [
        ("docs/**", ["docs/a", "docs/.a", "docs/a/b/c", "docs/**", "docs/a/**"], ["docs", "docsa/b", "a/docs/b", "**", "doc/**"]),
        ("logs/*.txt", ["logs/a.txt", "logs/.txt"], ["logs/a/b.txt", "logs/a.txtx", "logs/**", "logs/a.txt/**"]),
        ("a/*/c/**", ["a/b/c/d", "a/b/c/**", "a/b/c/d/**"], ["a/c/d", "a/b/**", "a/b/b/c/d"]),
        ("a/**/z", ["a/z", "a/b/z", "a/b/c/z"], ["a/b", "z", "a/**", "a/b/**"]),
        ("**/x.md", ["x.md", "a/x.md"], ["x.md/a", "**"]),
        ("a.b", ["a.b"], ["axb", "a.b/c", "a.b/**"]),
        ("a/**/b/**", ["a/b/c", "a/x/b/**", "a/b/**"], ["a/b", "a/x/**"]),
    ],
)  # fmt: skip
def test_a_ceiling_covers_what_lies_below_it(pattern: str, inside: list[str], outside: list[str]) -> None:
    assert [name for name in inside if not covered([pattern], name)] == []
    assert [name for name in outside if covered([pattern], name)] == []


SEGMENT = st.sampled_from(["a", "b", "ab"])


@UNHURRIED
@given(
    st.lists(st.sampled_from(["a", "b", "*", "**", "a*"]), min_size=1, max_size=4).map("/".join),
    st.lists(SEGMENT, min_size=1, max_size=3).map("/".join),
    st.lists(SEGMENT, min_size=1, max_size=3).map("/".join),
)
def test_a_covered_set_holds_only_covered_files(pattern: str, folder: str, below: str) -> None:
    if covered([pattern], f"{folder}/**"):
        assert covered([pattern], f"{folder}/{below}")


@UNHURRIED
@given(
    st.lists(SEGMENT, min_size=1, max_size=2).map("/".join),
    st.lists(st.sampled_from(["a", "b", "ab", ""]), min_size=1, max_size=4).map("/".join),
)
def test_a_folder_covers_the_same_files_however_the_pattern_is_written(folder: str, name: str) -> None:
    assert covered([f"{folder}/**"], name) == covered([f"{folder}/**/**"], name)


# -- the published schema ----------------------------------------------------------------------------------------------


def test_the_published_schema_is_the_current_one() -> None:
    published = ROOT / "tools" / "tool.schema.json"
    assert json.loads(published.read_text(encoding="utf-8")) == manifest_schema()


def test_the_schema_knows_every_key_of_a_whole_manifest() -> None:
    schema = manifest_schema()
    assert set(schema["properties"]) == {
        "name",
        "version",
        "owner",
        "summary",
        "source",
        "host",
        "client",
        "life",
        "server",
        "trust",
        "always",
        "at_most",
        "limits",
        "circuit",
        "actions",
    }
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["name", "version", "owner", "summary", "actions"]


def test_a_command_tool_has_one_sandbox_for_a_run_unless_its_manifest_says_otherwise() -> None:
    assert parse(COMMAND).life == "run"
    assert parse(COMMAND.replace('source = "command"', 'source = "command"\nlife = "call"')).life == "call"
    assert parse(COMMAND.replace('source = "command"', 'source = "command"\ntrust = "none"')).life == "call"
    assert parse(WHOLE).life == "call"


@pytest.mark.parametrize(
    ("line", "of"),
    [
        ('life = "run"\nsource = "python"', "life = 'run' is only for source = 'command' and 'mcp'"),
        ('life = "run"\ntrust = "none"\nsource = "command"', "life = 'run' and trust = 'none' exclude each other"),
    ],
)
def test_one_sandbox_for_a_run_is_for_trusted_command_tools_only(line: str, of: str) -> None:
    text = COMMAND.replace('source = "command"', line)
    assert of in [problem.what for problem in problems(text)]
