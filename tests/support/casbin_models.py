"""Casbin models of each kind, as other systems have them, and the rules that an import makes of their policies."""

from __future__ import annotations

from remit.analysis.importing import ARGO_CD, Imported
from remit.policy import Policy, load_policy
from remit.policy.language import model_text

ALLOW = "some(where (p.eft == allow))"
BOTH = "some(where (p.eft == allow)) && !some(where (p.eft == deny))"
FIRST = "priority(p.eft) || deny"


def model(request: str, policy: str, matcher: str, effect: str = ALLOW, roles: tuple[str, ...] = ()) -> str:
    lines = ["[request_definition]", f"r = {request}", "[policy_definition]", f"p = {policy}"]
    lines += ["[role_definition]", *roles] if roles else []
    return "\n".join([*lines, "[policy_effect]", f"e = {effect}", "[matchers]", f"m = {matcher}", ""])


RBAC = ("g = _, _",)
IN_DOMAIN = ("g = _, _, _",)
ROLE = "g(r.sub, p.sub)"
SAME = "r.obj == p.obj && r.act == p.act"
THREE = "sub, obj, act"
FOUR = "sub, dom, obj, act"
MODELS = {
    "acl": model(THREE, THREE, f"r.sub == p.sub && {SAME}"),
    "a superuser": model(THREE, THREE, f"r.sub == p.sub && {SAME} || r.sub == 'root'"),
    "roles": model(THREE, THREE, f"{ROLE} && {SAME}", roles=RBAC),
    "a role itself": model(THREE, f"{THREE}, eft", f"r.sub == p.sub && {SAME} || {ROLE} && r.act == 'read' && r.obj == p.obj", BOTH, RBAC),
    "roles of resources": model(THREE, THREE, f"{ROLE} && g2(r.obj, p.obj) && r.act == p.act", roles=(*RBAC, "g2 = _, _")),
    "domains": model(FOUR, FOUR, f"g(r.sub, p.sub, r.dom) && r.dom == p.dom && {SAME}", roles=IN_DOMAIN),
    "any domain": model(FOUR, FOUR, f"g(r.sub, p.sub, r.dom) && keyMatch(r.dom, p.dom) && {SAME}", roles=IN_DOMAIN),
    "denials": model(THREE, f"{THREE}, eft", f"{ROLE} && {SAME}", BOTH, RBAC),
    "only denials": model(THREE, f"{THREE}, eft", f"{ROLE} && {SAME}", "!some(where (p.eft == deny))", RBAC),
    "the first row": model(THREE, f"{THREE}, eft", f"{ROLE} && {SAME}", FIRST, RBAC),
    "priorities": model(THREE, f"priority, {THREE}, eft", f"{ROLE} && {SAME}", FIRST, RBAC),
    "keyMatch": model(THREE, f"{THREE}, eft", "r.sub == p.sub && keyMatch(r.obj, p.obj) && regexMatch(r.act, p.act)", BOTH),
    "keyMatch2": model(THREE, f"{THREE}, eft", f"{ROLE} && keyMatch2(r.obj, p.obj) && r.act == p.act", BOTH, RBAC),
    "keyMatch3": model(THREE, THREE, "r.sub == p.sub && keyMatch3(r.obj, p.obj) && r.act == p.act"),
    "keyMatch4": model("role, obj, act", "role, obj, act", "r.role == p.role && keyMatch4(r.obj, p.obj) && r.act == p.act"),
    "regexMatch": model(THREE, f"{THREE}, eft", "r.sub == p.sub && regexMatch(r.obj, p.obj) && r.act == p.act", BOTH),
    "globMatch": model(THREE, f"{THREE}, eft", "r.sub == p.sub && globMatch(r.obj, p.obj) && r.act == p.act", BOTH),
    "stars": model(THREE, f"{THREE}, eft", "(p.sub == '*' || r.sub == p.sub) && (r.obj == p.obj || p.obj == '*') && (p.act == '*' || r.act == p.act)", BOTH),
    "a list": model(THREE, THREE, "r.sub == p.sub && r.obj in ('data1', 'data2') && r.act == p.act"),
    "without objects": model("sub, act", "sub, act", "r.sub == p.sub && r.act == p.act"),
    "Argo CD": ARGO_CD,
}  # fmt: skip


def loaded(imported: Imported) -> Policy:
    files = {"policies/model.conf": model_text().encode(), "policies/rules.csv": imported.rules_text.encode()}
    return load_policy(files)
