"""Strict loading: what stock Casbin drops, ignores or half-reads is a problem with a file, a line and a fix.

The ids F1 to F17 are the fail-open cases of pycasbin that the project measured, C1 to C16 those of the threat list; the
ones that need a component which Remit does not have (a database adapter, a second enforcer) have no row.
"""

from __future__ import annotations

import pytest

from remit.core.calls import Context, Request
from remit.core.errors import WorkspaceError
from remit.policy import engine as policy
from remit.policy.engine import Policy
from remit.policy.language.loader import Vocabulary
from support import ROOT

MODEL = (ROOT / "policies" / "model.conf").read_bytes()
VOCABULARY = Vocabulary(
    actions={
        "files.read": {"path": "string"},
        "files.write": {"path": "string", "text": "string"},
        "mail.send": {"to": "string", "amount": "integer"},
        "draft.new": None,
    }
)


def load(
    rows: str | bytes, *, vocabulary: Vocabulary | None = None, model: bytes | None = MODEL, **more: bytes
) -> Policy:
    files = {"policies/rules.csv": rows.encode() if isinstance(rows, str) else rows}
    if model is not None:
        files["policies/model.conf"] = model
    return policy.load_policy({**files, **more}, vocabulary)


def problems(rows: str | bytes, **options: object) -> list[tuple[int | None, str]]:
    with pytest.raises(WorkspaceError) as caught:
        load(rows, **options)  # type: ignore[arg-type]
    assert all(problem.fix and problem.file.startswith("policies/") for problem in caught.value.problems)
    return [(problem.line, problem.what) for problem in caught.value.problems]


def allows(rules: Policy, action: str, resource: str, subject: str = "agent:a") -> bool:
    request = Request(subjects=(subject,), action=action, resources=(resource,), context=Context())
    return rules.decide(request).verdict == "allow"


GOOD = "p, agent:a, files.read, file:docs/**, True, allow"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        pytest.param("p, agent:a, files.read, file:**, False) or (True, allow", "parentheses", id="F1 a condition closes a parenthesis of the matcher"),
        pytest.param("p, agent:a, files.read, file:**, True) #, allow", "comment", id="F1 a condition comments out what follows"),
        pytest.param("p, agent:a, files.read, file:**, True); (False, allow", "parentheses", id="F1 a condition is two"),
        pytest.param("g, user:a, role:b, 2000-01-01, 2001-01-01", "3 fields", id="F3 a role for a time"),
        pytest.param("p, agent:a, files.read, file:**, True, Deny", "not an effect", id="F6 C2 effect in capitals"),
        pytest.param("p, agent:a, files.read, file:**, True, denied", "not an effect", id="F6 effect of another word"),
        pytest.param("policy, agent:a, files.read, file:**, True, deny", "begins with p or g", id="F7 C4 unknown row type"),
        pytest.param("P, agent:a, files.read, file:**, True, deny", "begins with p or g", id="F7 C4 row type in capitals"),
        pytest.param("p2, agent:a, files.read, file:**, True, deny", "begins with p or g", id="F8 a second policy type"),
        pytest.param("p, agent:a, files.read, file:a/**/**, True, deny", "repeats", id="F13 doubled wildcard"),
        pytest.param("p, agent:a, files.read, ^file:.*$, True, deny", "has no kind", id="F13 C8 C10 a regular expression"),
        pytest.param("p, agent:a, files.read, *, True, deny", "has no kind", id="F13 a star for everything"),
        pytest.param("p, agent:a, files.read, file:**, r.ctx.update({}) == None, deny", "has a syntax error", id="F15 a condition that changes facts"),
        pytest.param("p, agent:a, files.read, file:**, True, deny, deny", "6 fields", id="F17 a seventh field"),
        pytest.param("p, agent:a, files.read, file:../etc/**, True, deny", ". or ..", id="C6 C7 a pattern that climbs"),
        pytest.param("p, agent:a, files.read, file:secret//x, True, deny", "empty segment", id="C7 doubled slash"),
        pytest.param("p, agent:a, files.read, file:./secret/*, True, deny", ". or ..", id="C7 a dot segment"),
        pytest.param("p, agent:a, files.read, file:%73ecret/x, True, deny", "canonical name", id="C7 an escaped character"),
        pytest.param("p, agent:a, files.read, file:/etc/passwd, True, deny", "empty segment", id="C7 an absolute path"),
        pytest.param("p, agent:a, files.read, file:**, True", "6 fields", id="C11 a field too few"),
        pytest.param("p, agent:a, files.read, file:**, True, deny # never", "not an effect", id="C12 a comment behind the effect"),
        pytest.param("p, 'agent:a', files.read, file:**, True, deny", "not a valid subject", id="C12 quotes kept literally"),
        pytest.param('p, "agent:a", files.read, file:**, True, deny', "double quote", id="C12 double quotes"),
        pytest.param("p, agent:a, files.read, file:**, args.path in ('a', 'b'), deny", "6 fields|fields", id="a comma in a condition"),
        pytest.param("p, agent:a, files.read, file:**, args.path == 'a,b', deny", "fields", id="a comma in a text"),
        pytest.param("p, agent:a, files.read, file:**, args.path == 'a)', deny", "parentheses", id="a bracket in a text"),
        pytest.param("p, agent:a, files.read, file:**, args.path == '[', deny", "bracket", id="a bracket that swallows fields"),
        pytest.param("p, agent:a, files.read, file:**, , deny", "empty", id="an empty condition"),
        pytest.param("p,, files.read, file:**, True, deny", "empty", id="an empty subject"),
        pytest.param("p , agent:a, files.read, file:**, True, deny", "spaces follow", id="a space before the comma"),
        pytest.param("p, agent:a, files.read, file:**, True, deny ", "spaces follow", id="a space at the end"),
        pytest.param(" p, agent:a, files.read, file:**, True, deny", "indented", id="an indented row"),
        pytest.param(" # p, agent:a", "indented", id="an indented comment"),
        pytest.param("p,\tagent:a, files.read, file:**, True, deny", "U+0009", id="a tab"),
        pytest.param("p, agent:a, files.read, file:**,\u00a0True, deny", "U+00A0", id="a no-break space"),
        pytest.param("p, agent:a, files.read, file:**, True, allow\u202e", "U+202E", id="text that runs backwards"),
        pytest.param("# harmless \u202e", "U+202E", id="a comment that runs backwards"),
        pytest.param("p, agent:a, files.read, file:**, True, deny\rp, agent:a, *, **, True, allow", "U+000D", id="C9 a hidden line"),
        pytest.param("p, agent:a\u2028, files.read, file:**, True, deny", "U+2028", id="a line separator"),
        pytest.param("p, agent:*, files.read, file:**, True, deny", "not a valid subject", id="a wildcard subject"),
        pytest.param("p, *, files.read, file:**, True, deny", "not a valid subject", id="everybody"),
        pytest.param("p, alice, files.read, file:**, True, deny", "not a valid subject", id="a subject of no kind"),
        pytest.param("p, agent:а, files.read, file:**, True, deny", "not a valid subject", id="a letter that looks like another"),
        pytest.param("p, agent:a, files, file:**, True, deny", "not an action", id="a tool without action"),
        pytest.param("p, agent:a, files.re*, file:**, True, deny", "not an action", id="half an action"),
        pytest.param("p, agent:a, files__read, file:**, True, deny", "not an action", id="the model's name of an action"),
        pytest.param("p, agent:a, file.read, file:**, True, deny", "no tool has", id="an action that no tool has"),
        pytest.param("p, agent:a, file.*, file:**, True, deny", "no tool has", id="a tool that is not there"),
        pytest.param("p, agent:a, files.read, file:**, args.pth == 'a', deny", "is not an argument", id="C16 an argument that does not exist"),
        pytest.param("p, agent:a, files.*, file:**, args.text == 'a', deny", "is not an argument", id="C16 an argument that not every action has"),
        pytest.param("p, agent:a, *, **, args.path == 'a', deny", "is not an argument", id="C16 an argument in a row for all actions"),
        pytest.param("p, agent:a, mail.send, **, args.amount > '9', deny", "compares a number with a string", id="a comparison by the wrong type"),
        pytest.param("p, agent:a, mail.send, **, calls('mail.sent') > 9, deny", "does not name an action", id="a count of nothing"),
        pytest.param("p, agent:a, mail.send, **, approved('role:x'), deny", "an approval would forbid", id="an approval that forbids"),
        pytest.param("p, agent:a, mail.send, **, not approved('role:x'), allow", "an approval would forbid", id="an allow until approved"),
        pytest.param("p, agent:a, mail.send, https://API.example.com/x, True, deny", "canonical name", id="a host in capitals"),
        pytest.param("p, agent:a, mail.send, https://api.example.com:443/x, True, deny", "canonical name", id="a default port"),
        pytest.param("p, agent:a, mail.send, mail:ann@Example.com, True, deny", "canonical name", id="a mail domain in capitals"),
        pytest.param("g, user:ann, lead", "not a role", id="a role of no kind"),
        pytest.param("g, ann, role:lead", "not a valid subject", id="a member of no kind"),
        pytest.param("g, user:ann", "3 fields", id="a link to nothing"),
        pytest.param("p, agent:a, files.read, file:**, True, deny" + "x" * 20_000, "characters long", id="an endless line"),
        pytest.param("p", "6 fields", id="a lonely p"),
        pytest.param("'", "begins with", id="a lonely quote"),
    ],
)  # fmt: skip
def test_a_row_that_would_be_misread_is_refused(row: str, message: str) -> None:
    """Line 2 is wrong, and no other line is."""
    found = problems(f"{GOOD}\n{row}\n{GOOD}\n", vocabulary=VOCABULARY)
    assert {line for line, _ in found} == {2}
    assert any(part in found[0][1] for part in message.split("|"))


def test_every_problem_of_every_file_is_reported_at_once() -> None:
    """An author fixes a policy once, not one error at a time."""
    with pytest.raises(WorkspaceError) as caught:
        load("p, a\n\nx\ng, user:a, b", model=b"[matchers]\nm = True\n", **{"policies/more.csv": b"\xff\n"})
    assert [(problem.file, problem.line) for problem in caught.value.problems] == [
        ("policies/model.conf", 2),
        ("policies/model.conf", None),
        ("policies/model.conf", None),
        ("policies/model.conf", None),
        ("policies/model.conf", None),
        ("policies/more.csv", 1),
        ("policies/rules.csv", 1),
        ("policies/rules.csv", 3),
        ("policies/rules.csv", 4),
    ]


def test_a_byte_order_mark_is_a_problem_and_does_not_hide_the_first_rule() -> None:
    """F7, C3: stock Casbin drops the first line."""
    assert problems(b"\xef\xbb\xbf" + GOOD.encode()) == [
        (1, "the file starts with a byte order mark, which hides its first rule from Casbin")
    ]


@pytest.mark.parametrize("name", ["policies/rules.CSV", "policies/team/rules.csv"])
def test_a_rules_file_that_would_not_be_read_is_refused(name: str) -> None:
    """A deny that is not read would allow."""
    assert problems(GOOD, **{name: GOOD.encode()}) == [(None, "nothing reads this file of rules")]


@pytest.mark.parametrize("rows", ["", "\n\n", "# only words\n"])
def test_an_empty_policy_loads_and_denies_everything(rows: str) -> None:
    """F5, F9, C1."""
    rules = load(rows)
    assert not allows(rules, "files.read", "file:a")
    assert not allows(rules, "", "none:", subject="")
    assert not policy.load_policy({"policies/model.conf": MODEL}).rules


MODEL_TEXT = MODEL.decode()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("g(r.sub, p.sub)", "r.sub = p.sub", id="F2 an assignment for a comparison"),
        pytest.param("p = sub, act, res, cond, eft", "p = sub, act, res, cond, effect", id="F6 an effect column of another name"),
        pytest.param("e = some(where (p.eft == allow)) && ", "e = ", id="F9 nothing denied is allowed"),
        pytest.param(" && !some(where (p.eft == deny))", "", id="denies that deny nothing"),
        pytest.param("holds(p.cond, p.eft, r.ctx)", "eval(p.cond)", id="C15 spliced conditions"),
        pytest.param("resMatch(r.res, p.res, p.eft)", "keyMatch(r.res, p.res)", id="F13 C5 Casbin's own matching"),
        pytest.param("[matchers]", "[matchers]\nm = True\n[matchers]", id="a section twice"),
        pytest.param("g = _, _", "g = _, _, (_, _)", id="F3 roles for a time"),
        pytest.param("g = _, _", "g = _, _\ng2 = _, _", id="a second kind of role"),
        pytest.param("[policy_effect]", "[policy_effect]\ne2 = priority(p.eft) || deny", id="F8 a second effect"),
        pytest.param("[role_definition]", "[roles]", id="a section of another name"),
        pytest.param("r = sub, act, res, ctx", "", id="a missing line"),
        pytest.param("m = actMatch", "m =  actMatch", id="another spacing"),
        pytest.param("p.res, p.eft) && holds", "p.res, p.eft) \\\n && holds", id="a continued line"),
        pytest.param("# How Remit", "\ufeff# How Remit", id="a byte order mark"),
    ],
)  # fmt: skip
def test_a_model_that_differs_from_the_required_one_is_refused(old: str, new: str) -> None:
    """Also if Casbin would accept it."""
    assert old in MODEL_TEXT
    assert problems(GOOD, model=MODEL_TEXT.replace(old, new).encode())


def test_a_missing_model_is_a_problem_that_says_what_to_write() -> None:
    """The text that the fix gives loads."""
    with pytest.raises(WorkspaceError) as caught:
        load(GOOD, model=None)
    load(GOOD, model=caught.value.problems[0].fix.removeprefix("write it:\n").encode())


def test_a_cycle_of_roles_is_refused_at_the_row_that_closes_it() -> None:
    """Each cycle is reported once."""
    rows = "g, role:a, role:b\ng, role:b, role:c\ng, role:c, role:a\ng, role:d, role:d\n"
    assert [line for line, _ in problems(rows)] == [3, 4]


@pytest.mark.parametrize("downwards", [True, False])
def test_a_chain_of_nine_roles_works_and_one_of_ten_is_refused(downwards: bool) -> None:
    """F10: stock Casbin silently stops after nine links, and ignores a deny beyond."""
    links = ["g, user:u, role:1", *(f"g, role:{n}, role:{n + 1}" for n in range(1, 10))]
    nine = links[:9] if downwards else links[8::-1]
    rules = load("\n".join([*nine, "p, role:9, *, **, True, allow"]))
    assert allows(rules, "files.read", "file:a", subject="user:u")
    assert rules.roles_of("user:u") == {f"role:{n}" for n in range(1, 10)}
    assert [line for line, _ in problems("\n".join(links if downwards else links[::-1]))] == [10]


def test_a_deny_for_every_action_is_never_skipped() -> None:
    """F11: an index by action must not lose it."""
    rules = load(
        "p, agent:a, files.read, **, True, allow\np, agent:a, *, file:s/**, True, deny\np, agent:a, files.*, file:t/**, True, deny"
    )
    assert allows(rules, "files.read", "file:a")
    assert not allows(rules, "files.read", "file:s/a")
    assert not allows(rules, "files.read", "file:t/a")


def test_dotfiles_and_unusual_spellings_do_not_evade_a_deny() -> None:
    """F4, F13, C5 to C8: names that other globs hide or let through."""
    rules = load(
        "p, agent:a, *, file:ws/*/public, True, allow\np, agent:a, *, file:home/**, True, allow\np, agent:a, *, file:home/s/**, True, deny"
    )
    assert allows(rules, "files.read", "file:ws/x/public")
    assert allows(rules, "files.read", "file:home/.ssh/id_rsa")
    for resource in (
        "ws/x/secret",
        "ws/x/public\n",
        "ws/../etc/shadow",
        "home/s/.env",
        "home/s/a/b",
        "home//s/x",
        "home/./s/x",
        "home/s/../s/x",
        "home/**",
        "home/s/**",
        "home/s\\x",
        "home/s/",
    ):
        assert not allows(rules, "files.read", f"file:{resource}"), resource


def test_texts_in_conditions_are_literal() -> None:
    """F14, C15: nothing inside a text is rewritten."""
    rules = load("p, agent:a, files.read, **, args.path == 'r.a && !p.b || c', allow")
    for value, expected in (("r.a && !p.b || c", "allow"), ("r_a and not p_b or c", "deny")):
        request = Request(
            subjects=("agent:a",), action="files.read", resources=(), context=Context(args={"path": value})
        )
        assert rules.decide(request).verdict == expected


def test_an_unknown_schema_accepts_any_argument_and_a_known_one_is_checked() -> None:
    """A tool that is not pinned yet does not make the whole policy invalid."""
    load("p, agent:a, draft.new, **, args.anything == 1, allow", vocabulary=VOCABULARY)
    load("p, agent:a, draft.*, **, args.anything == 1, allow", vocabulary=VOCABULARY)
    load("p, agent:a, files.*, **, args.path == 'x', allow", vocabulary=VOCABULARY)


def test_the_comment_right_above_a_rule_is_its_note() -> None:
    """All its lines are; a comment before an empty line or another rule is not."""
    rules = load(f"# About the file\n\n# First line\n# and second\n{GOOD}\n{GOOD}\n#\n{GOOD}\n# lost\n\n{GOOD}\r\n")
    assert [rule.note for rule in rules.rules] == ["First line and second", "", "", ""]
    assert [(rule.file, rule.line, rule.text) for rule in rules.rules] == [
        ("policies/rules.csv", line, GOOD) for line in (5, 6, 8, 11)
    ]


def test_the_digest_covers_the_meaning_of_the_rules() -> None:
    """Comments, order, files and spacing do not change it; a field does."""
    rows = ["p, agent:a, files.read, file:**, args.path == 'a' and named_by_user, allow", "g, user:u, role:r"]
    plain = load("\n".join(rows)).digest
    assert load("# why\n" + "\n\n".join(reversed(rows))).digest == plain
    assert (
        load(rows[0].replace(", ", ",  ").replace(" == ", "=="), **{"policies/z.csv": rows[1].encode()}).digest == plain
    )
    assert load(rows[0]).digest != plain
    assert load("\n".join(rows).replace("allow", "deny")).digest != plain


def test_files_are_read_in_the_order_of_their_names_and_others_are_ignored() -> None:
    """A whole policy bundle may be passed in."""
    more = {
        "policies/a.csv": b"# one\n" + GOOD.encode(),
        "remit.toml": b"\xff",
        "agent/x/rules.csv": b"junk",
        "policies/tools.lock": b"{}",
    }
    assert [rule.file for rule in load(GOOD, **more).rules] == ["policies/a.csv", "policies/rules.csv"]
