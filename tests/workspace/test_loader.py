"""A workspace is found from any folder inside of it; every problem of every file is reported."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from remit.core.errors import Refusal, UsageError, WorkspaceError
from remit.core.parsing.strict_json import digest
from remit.workspace.definitions import Budget, Settings, Workspace
from remit.workspace.files import find_workspace, read_code
from remit.workspace.identity import subject_of
from remit.workspace.loader import load_files, load_workspace
from remit.workspace.manifest.manifest import ActionSchema, code_digest, parse_manifest, pin
from remit.workspace.manifest.pins import write_lock
from support import ROOT

TOOL = """\
name = "files"
version = "1.0.0"
owner = "platform@example.com"
summary = "Read text files"

[at_most]
read = ["docs/**"]

[actions.read]
summary = "Read one text file"
touches = ["read file:{path}"]
effect = "read"

[actions.list]
summary = "List files"
touches = ["read file:{folder}/**"]
effect = "read"
"""

AGENT = """\
name = "triage"
summary = "Finds out why"
model = "script:script.yaml"
prompt = "prompt.md"
tools = ["files"]
"""

MAIN = "def read(path: str) -> str: ...\ndef list(folder: str) -> str: ...\n"

FILES: Mapping[str, str] = {
    "remit.toml": "",
    "policies/model.conf": "[request_definition]\n",
    "policies/rules.csv": "# a rule\n",
    "policies/cases.yaml": "[]\n",
    "tools/files/tool.toml": TOOL,
    "tools/files/main.py": MAIN,
    "tools/files/cases.yaml": "[]\n",
    "agent/triage/agent.toml": AGENT,
    "agent/triage/prompt.md": "Find out why.\n",
    "agent/triage/script.yaml": "turns: []\n",
}

SCHEMAS = {
    name: ActionSchema(
        input={"type": "object", "properties": {argument: {"type": "string"}}, "required": [argument]},
        output={"type": "string"},
    )
    for name, argument in (("read", "path"), ("list", "folder"))
}


def write(root: Path, files: Mapping[str, str | None] | None = None) -> Path:
    """Write a workspace with these files changed; None leaves a file out."""
    for name, text in {**FILES, **(files or {})}.items():
        if text is not None:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return root


def lock(manifest: str = TOOL, code: str = MAIN) -> str:
    """A lock that pins the tool of this test."""
    parsed = parse_manifest(manifest, file="tools/files/tool.toml")
    return write_lock({"files": pin(parsed, code_digest({"main.py": code.encode()}), SCHEMAS, {})})


def problems(root: Path, files: Mapping[str, str | None] | None = None) -> list[tuple[str, int | None, str]]:
    with pytest.raises(WorkspaceError) as error:
        load_workspace(write(root, files))
    assert all(problem.fix for problem in error.value.problems)
    return [(problem.file, problem.line, problem.what) for problem in error.value.problems]


def agent(old: str, new: str) -> dict[str, str]:
    assert old in AGENT
    return {"agent/triage/agent.toml": AGENT.replace(old, new, 1)}


def test_a_workspace_has_what_its_files_define(tmp_path: Path) -> None:
    workspace = load_workspace(write(tmp_path, {"policies/tools.lock": lock()}))
    assert workspace.root == tmp_path
    assert workspace.settings == Settings()
    triage = workspace.agents["triage"]
    assert (triage.name, triage.model, triage.prompt) == ("triage", "script:script.yaml", "Find out why.\n")
    assert triage.actions == ("files.read", "files.list")
    assert (triage.folder, triage.seed, triage.base_url) == ("work/triage/{run}", None, None)
    assert triage.budget == Budget(steps=30, calls=60, wall=600.0)
    assert triage.accept_parsed_arguments is False
    assert workspace.tools["files"].pinned


def test_every_setting_is_read(tmp_path: Path) -> None:
    settings = 'env = "production"\n[identity]\n"*" = "user:operator"\nann = "user:ann@example.com"\n'
    settings += '[sandbox]\naccept = ["full", "landlock"]\n[redact]\nenv = ["MY_TOKEN"]\n'
    more = 'folder = "work/here"\nseed = "agent/triage/incident"\nbase_url = "http://127.0.0.1:1/v1"\n'
    more += 'accept_parsed_arguments = true\n[budget]\nsteps = 3\ncalls = 4\nwall = "90s"\n'
    text = AGENT.replace('tools = ["files"]', 'tools = ["files.list", "files", "files.read"]') + more
    workspace = load_workspace(
        write(
            tmp_path,
            {"remit.toml": settings, "agent/triage/agent.toml": text, "agent/triage/incident/docs/a.md": "a\n"},
        )
    )
    assert workspace.settings == Settings(
        env="production",
        identity={"*": "user:operator", "ann": "user:ann@example.com"},
        accept=("full", "landlock"),
        redact_env=("MY_TOKEN",),
    )
    triage = workspace.agents["triage"]
    assert (triage.folder, triage.seed, triage.base_url) == (
        "work/here",
        "agent/triage/incident",
        "http://127.0.0.1:1/v1",
    )
    assert triage.actions == ("files.list", "files.read")
    assert triage.accept_parsed_arguments is True
    assert triage.budget == Budget(steps=3, calls=4, wall=90.0)


def test_the_bundle_is_every_file_that_decides_and_no_other(tmp_path: Path) -> None:
    workspace = load_workspace(
        write(tmp_path, {"policies/tools.lock": lock(), "policies/README.md": "x", "tools/README.md": "x"})
    )
    assert set(workspace.files) == {
        "remit.toml",
        "policies/model.conf",
        "policies/rules.csv",
        "policies/tools.lock",
        "tools/files/tool.toml",
        "agent/triage/agent.toml",
        "agent/triage/prompt.md",
        "agent/triage/script.yaml",
    }
    assert workspace.files["agent/triage/prompt.md"] == b"Find out why.\n"


def test_a_recorded_bundle_loads_by_the_same_code_without_any_folder(tmp_path: Path) -> None:
    live = load_workspace(write(tmp_path, {"policies/tools.lock": lock()}))
    recorded = load_files(live.files, root=None, code={"files": live.tools["files"].code})
    assert recorded == Workspace(
        root=None, settings=live.settings, agents=live.agents, tools=live.tools, files=live.files
    )
    unknown = load_files(live.files, root=None, code=None)
    assert unknown.tools["files"].code == ""
    assert not unknown.tools["files"].pinned


def test_a_tool_that_is_not_pinned_or_has_changed_is_no_problem_and_is_not_pinned(tmp_path: Path) -> None:
    assert not load_workspace(write(tmp_path / "a")).tools["files"].pinned
    assert load_workspace(write(tmp_path / "a")).tools["files"].pin is None
    changed = {"policies/tools.lock": lock(), "tools/files/main.py": MAIN + "# changed\n"}
    assert not load_workspace(write(tmp_path / "b", changed)).tools["files"].pinned
    changed = {"policies/tools.lock": lock(), "tools/files/helper.py": ""}
    assert not load_workspace(write(tmp_path / "c", changed)).tools["files"].pinned
    changed = {"policies/tools.lock": lock(), "tools/files/tool.toml": TOOL.replace("1.0.0", "1.0.1")}
    assert not load_workspace(write(tmp_path / "d", changed)).tools["files"].pinned
    same = {"policies/tools.lock": lock(), "tools/files/cases.yaml": "[1]", "tools/files/tool.toml": "# x\n" + TOOL}
    assert load_workspace(write(tmp_path / "e", same)).tools["files"].pinned


def test_a_changed_manifest_is_not_held_against_the_schemas_of_the_old_one(tmp_path: Path) -> None:
    renamed = TOOL.replace("{path}", "{file}")
    load_workspace(write(tmp_path / "a", {"policies/tools.lock": lock(), "tools/files/tool.toml": renamed}))
    found = problems(tmp_path / "b", {"policies/tools.lock": lock(renamed), "tools/files/tool.toml": renamed})
    assert found == [("tools/files/tool.toml", 11, "the placeholder 'file' is no argument")]


def test_an_action_is_found_by_its_name(tmp_path: Path) -> None:
    workspace = load_workspace(write(tmp_path))
    tool, action = workspace.action("files.read")
    assert (tool.manifest.name, action.name) == ("files", "read")
    for name in ("files", "files.", "files.write", "file.read", "files.read.x", "", "files__read", "Files.read"):
        with pytest.raises(Refusal) as refusal:
            workspace.action(name)
        assert refusal.value.code == "unknown_action"


def test_the_workspace_is_found_from_any_folder_inside_it(tmp_path: Path) -> None:
    root = write(tmp_path / "project")
    inner = root / "tools" / "files"
    assert find_workspace(inner) == find_workspace(root) == root.resolve()
    (inner / "remit.toml").mkdir()  # a folder of that name is no marker
    assert find_workspace(inner) == root.resolve()


def test_without_a_workspace_the_fix_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="remit init"):
        find_workspace(tmp_path)


def test_every_problem_of_every_file_is_reported(tmp_path: Path) -> None:
    found = problems(
        tmp_path,
        {
            "remit.toml": "[sandbox]\naccept = []\nextra = 1\n",
            "policies/tools.lock": "{",
            "tools/files/tool.toml": TOOL.replace('"docs/**"', '"**"'),
            "tools/empty/main.py": "x = 1\n",
            "tools/other/tool.toml": TOOL,
            "agent/triage/agent.toml": AGENT.replace("script.yaml", "none.yaml").replace(
                '["files"]', '["filez", "files.raed"]'
            ),
            "agent/second/agent.toml": "name = ",
        },
    )
    assert found == [
        ("tools/empty", None, "the folder has no tool.toml"),
        ("remit.toml", 2, "'sandbox.accept' is a list"),
        ("remit.toml", 3, "unknown key 'sandbox.extra'"),
        ("policies/tools.lock", 1, "the text is not JSON: expecting property name enclosed in double quotes"),
        ("tools/files/tool.toml", 7, "'at_most.read.0' is not valid: '**' matches every file"),
        ("tools/other/tool.toml", 1, "'name' is 'files', but the folder is 'other'"),
        ("agent/second/agent.toml", 1, "not valid TOML: invalid value"),
        ("agent/triage/agent.toml", 3, "'model' names the script 'none.yaml', which is not a file"),
        ("agent/triage/agent.toml", 5, "'tools' has 'filez', which is not a tool of this workspace"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "line", "what"),
    [
        ('name = "triage"', 'name = "other"', 1, "the folder is 'triage'"),
        ('name = "triage"', 'name = "a b"', 1, "not a name"),
        ('summary = "Finds out why"\n', "", 1, "the key 'summary' is missing"),
        ("script:script.yaml", "script.yaml", 3, "not the name of a model"),
        ("script:script.yaml", "script:../other.yaml", 3, "not the name of one file"),
        ("script:script.yaml", "script:/etc/passwd", 3, "not the name of one file"),
        ("script:script.yaml", "script:missing.yaml", 3, "which is not a file"),
        ("prompt.md", "missing.md", 4, "which is not a file"),
        ("prompt.md", "../../remit.toml", 4, "not the name of one file"),
        ("prompt.md", "/etc/passwd", 4, "not the name of one file"),
        ('["files"]', '["files.read", "files.wirte"]', 5, "'tools' has 'files.wirte', which is not an action"),
        ('["files"]', '[\n"files",\n"sql"]', 7, "'tools' has 'sql', which is not a tool"),
        ('["files"]', '"files"', 5, "'tools' is 'files'"),
        ('["files"]', '["files"]\nfolder = "."', 6, "not a plain relative path"),
        ('["files"]', '["files"]\nfolder = "policies/x"', 6, "may not write"),
        ('["files"]', '["files"]\nfolder = "tools"', 6, "may not write"),
        ('["files"]', '["files"]\nfolder = "agent/triage/{run}"', 6, "may not write"),
        ('["files"]', '["files"]\nfolder = "traces/{run}"', 6, "may not write"),
        ('["files"]', '["files"]\nfolder = ".git/x"', 6, "may not write"),
        ('["files"]', '["files"]\nfolder = "./policies"', 6, "not a plain relative path"),
        ('["files"]', '["files"]\nfolder = "work/../policies"', 6, "not the name of one file"),
        ('["files"]', '["files"]\nfolder = "/tmp/x"', 6, "not the name of one file"),
        ('["files"]', '["files"]\nfolder = "work/{user}"', 6, "not the name of one file"),
        ('["files"]', '["files"]\nfolder = "work/{run}/{run}"', 6, "not the name of one file"),
        ('["files"]', '["files"]\nseed = "agent/triage/nothing"', 6, "which is not a folder"),
        ('["files"]', '["files"]\nseed = "../x"', 6, "not the name of one file"),
        ('["files"]', '["files"]\nbase_url = "ftp://x"', 6, "not an address"),
        ('["files"]', '["files"]\naccept_parsed_arguments = 1', 6, "'accept_parsed_arguments' is 1"),
        ('["files"]', '["files"]\n[budget]\nsteps = 0', 7, "'budget.steps' is 0"),
        ('["files"]', '["files"]\n[budget]\nwall = "long"', 7, "not a duration"),
        ('["files"]', '["files"]\n[budget]\ntokns = 5', 7, "unknown key 'budget.tokns'"),
        ('["files"]', '["files"]\nmodl = "x"', 6, "unknown key 'modl'"),
    ],
)  # fmt: skip
def test_each_invalid_key_of_an_agent_is_one_problem_on_its_line(
    tmp_path: Path, old: str, new: str, line: int, what: str
) -> None:
    found = problems(tmp_path, agent(old, new))
    assert len(found) == 1, found
    assert found[0][:2] == ("agent/triage/agent.toml", line)
    assert what in found[0][2]


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("envv = 1", 1, "unknown key 'envv'"),
        ('env = "Prod!"', 1, "not a name"),
        ('[identity]\nann = "agent:triage"', 2, "not a user"),
        ('[identity]\nann = "user:a/b"', 2, "not a user"),
        ('[sandbox]\naccept = ["none"]', 2, "'sandbox.accept.0' is 'none'"),
        ('[sandbox]\naccept = "full"', 2, "'sandbox.accept' is 'full'"),
        ('host_tools = ["files"]', 1, "not a tool with source = 'host'"),
        ('host_tools = ["nothing"]', 1, "not a tool with source = 'host'"),
        ('[redact]\nenv = ["a b"]', 2, "not a variable"),
    ],
)
def test_each_invalid_setting_is_one_problem_on_its_line(tmp_path: Path, text: str, line: int, what: str) -> None:
    found = problems(tmp_path, {"remit.toml": text})
    assert len(found) == 1, found
    assert found[0][:2] == ("remit.toml", line)
    assert what in found[0][2]


def test_a_host_tool_runs_only_where_the_settings_name_it(tmp_path: Path) -> None:
    host = TOOL.replace("[at_most]", 'source = "host"\nhost = "package.module:functions"\n[at_most]')
    found = problems(tmp_path / "a", {"tools/files/tool.toml": host})
    assert found == [
        ("tools/files/tool.toml", 6, "a tool with source = 'host' runs unconfined, and remit.toml does not allow it")
    ]
    workspace = load_workspace(
        write(tmp_path / "b", {"tools/files/tool.toml": host, "remit.toml": 'host_tools = ["files"]\n'})
    )
    assert workspace.settings.host_tools == ("files",)
    assert workspace.tools["files"].manifest.host == "package.module:functions"


def test_a_broken_manifest_is_one_problem_and_not_one_for_each_agent(tmp_path: Path) -> None:
    assert problems(tmp_path, {"tools/files/tool.toml": TOOL.replace('version = "1.0.0"\n', "")}) == [
        ("tools/files/tool.toml", 1, "the key 'version' is missing")
    ]


def test_live_paths_are_not_checked_in_a_recorded_bundle(tmp_path: Path) -> None:
    live = load_workspace(write(tmp_path))
    recorded = {
        **live.files,
        "agent/triage/agent.toml": (AGENT + 'seed = "gone"\n').replace("script.yaml", "gone.yaml").encode(),
    }
    assert load_files(recorded, root=None, code={}).agents["triage"].seed == "gone"


def test_an_incomplete_recorded_bundle_is_reported(tmp_path: Path) -> None:
    live = load_workspace(write(tmp_path))
    for missing, file in (("remit.toml", "remit.toml"), ("agent/triage/prompt.md", "agent/triage/agent.toml")):
        with pytest.raises(WorkspaceError) as error:
            load_files({name: data for name, data in live.files.items() if name != missing}, root=None, code={})
        assert [problem.file for problem in error.value.problems] == [file]


def test_a_file_that_is_not_utf_8_is_reported_with_its_line(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "remit.toml").write_bytes(b'env = "local"\n# caf\xe9\n')
    (tmp_path / "policies/rules.csv").write_bytes(b"\xff")
    assert problems(tmp_path, {"remit.toml": None, "policies/rules.csv": None}) == [
        ("policies/rules.csv", 1, "the text is not UTF-8"),
        ("remit.toml", 2, "the text is not UTF-8"),
    ]


def test_the_folder_of_remit_itself_is_no_agent(tmp_path: Path) -> None:
    workspace = load_workspace(write(tmp_path, {"agent/remit/broker.py": "x = 1\n", "agent/remit/agent.toml": AGENT}))
    assert set(workspace.agents) == {"triage"}
    with pytest.raises(WorkspaceError, match="source of Remit itself"):
        load_files({**workspace.files, "agent/remit/agent.toml": AGENT.encode()}, root=None, code={})


def test_a_folder_without_its_toml_file_is_reported_and_an_empty_one_is_not(tmp_path: Path) -> None:
    (tmp_path / "tools/left/__pycache__").mkdir(parents=True)
    (tmp_path / "tools/left/__pycache__/main.pyc").write_bytes(b"")
    (tmp_path / "agent/none").mkdir(parents=True)
    (tmp_path / "tools/.hidden").mkdir()
    (tmp_path / "tools/.hidden/x").write_text("")
    load_workspace(write(tmp_path))
    assert problems(tmp_path, {"agent/none/prompt.md": "x"}) == [("agent/none", None, "the folder has no agent.toml")]


def test_a_link_in_a_tools_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "outside.py").write_text("x = 1\n")
    root = write(tmp_path / "project")
    (root / "tools/files/helper.py").symlink_to(tmp_path / "outside.py")
    assert problems(root) == [("tools/files/helper.py", None, "a symbolic link in the folder of a tool")]
    (root / "tools/files/helper.py").unlink()
    (root / "tools/files/lib").symlink_to(tmp_path)
    with pytest.raises(WorkspaceError):
        read_code(root / "tools/files")


def test_the_code_of_a_tool_is_read_with_its_folders(tmp_path: Path) -> None:
    root = write(tmp_path, {"tools/files/lib/a.py": "a\n", "tools/files/lib/.b": "b\n", "tools/files/.c/d.py": "d\n"})
    assert read_code(root / "tools/files") == {"main.py": MAIN.encode(), "lib/a.py": b"a\n"}


def test_a_file_that_cannot_be_read_is_reported(tmp_path: Path) -> None:
    root = write(tmp_path)
    (root / "policies/rules.csv").unlink()
    (root / "policies/rules.csv").mkdir()
    assert [(file, what.partition(":")[0]) for file, _, what in problems(root, {"policies/rules.csv": None})] == [
        ("policies/rules.csv", "it cannot be read")
    ]


def test_an_account_is_the_user_in_the_settings() -> None:
    table = Settings(identity={"ann": "user:ann@example.com", "*": "user:operator"})
    assert [subject_of(table, account) for account in ("ann", "bob")] == ["user:ann@example.com", "user:operator"]
    assert subject_of(Settings(identity={"ann": "user:a"}), "bob") == "user:none"
    assert subject_of(Settings(identity={}), "bob") == "user:none"
    assert subject_of(Settings(), "bob") == "user:bob"
    assert subject_of(Settings(), "DOMAIN\\bob") == "user:none"
    assert subject_of(Settings(), "bob\nuser:root") == "user:none"


def test_loading_reads_no_file_twice_and_depends_on_no_order(tmp_path: Path) -> None:
    files = load_workspace(write(tmp_path)).files
    backwards = dict(reversed(files.items()))
    loaded, reloaded = load_files(files, root=None, code={}), load_files(backwards, root=None, code={})
    assert loaded == reloaded
    assert digest(list(loaded.agents)) == digest(list(reloaded.agents))


def test_the_repository_is_itself_a_workspace() -> None:
    root = ROOT
    workspace = load_workspace(root)
    assert "triage" in workspace.agents
    assert {"files", "sql", "tickets"} <= set(workspace.tools)
    assert find_workspace(root / "tests") == Path(os.path.realpath(root))
