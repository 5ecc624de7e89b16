"""`remit policy import` on the command line."""

from __future__ import annotations

from pathlib import Path

from support.casbin_models import MODELS
from support.runs import Remit

POLICY = "p, dana, data1, read\np, dana, data1, --\n"


def test_each_row_is_shown_and_a_refused_one_is_the_exit_code(remit: Remit, session: Path) -> None:
    (session / "model.conf").write_text(MODELS["acl"])
    (session / "policy.csv").write_text(POLICY)
    shown = remit("policy", "import", "policy.csv", "--model", "model.conf")
    assert shown.code == 1
    assert [line.split()[0] for line in shown.out.splitlines()[:2]] == ["kept", "refused"]
    (session / "policy.csv").write_text(POLICY.split("\n")[0])
    answer = remit("policy", "import", "policy.csv", "--model", "model.conf", "--tool", "shop", "--json")
    assert (answer.code, answer.json["ok"], answer.json["counts"]["kept"]) == (0, True, 1)
    assert answer.json["rules"].splitlines()[-1] == "p, user:dana, shop.read, store:data1, True, allow"


def test_files_are_written_once_and_never_overwritten(remit: Remit, session: Path) -> None:
    (session / "model.conf").write_text(MODELS["acl"])
    (session / "policy.csv").write_text("p, dana, data1, read\n")
    words = ("policy", "import", "policy.csv", "--model", "model.conf", "-o", "new.csv", "--cases", "new.yaml")
    assert remit(*words).code == 0
    before = (session / "new.csv").read_text()
    assert "user:dana, app.read" in before
    assert "expect: allow" in (session / "new.yaml").read_text()
    again = remit(*words)
    assert (again.code, (session / "new.csv").read_text()) == (2, before)
    assert "name a new file" in again.err


def test_a_policy_without_a_model_and_a_file_that_is_none_are_errors(remit: Remit, session: Path) -> None:
    (session / "policy.csv").write_text(POLICY)
    assert "--model" in remit("policy", "import", "policy.csv").err
    missing = remit("policy", "import", "no.csv", "--argo-cd")
    assert missing.code == 2
    assert "Traceback" not in missing.err
