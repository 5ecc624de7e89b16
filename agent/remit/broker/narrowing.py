"""Narrows a call that reads whatever of a set is permitted: the stores that it gets, and what it may read inside of them.

The rules decide each store by itself, before the tool runs. So what a tool computes over all that it has, such as a
statistic, follows from permitted stores alone. Inside of a store the tool applies the rules: it gets their patterns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from remit.broker.attempts import ToolExecutor
from remit.core import Call, Narrowing, Permitted, Refusal, ResourceAccess
from remit.workspace.manifest import Action


class PermittedResources(Protocol):
    """What the rules permit to a call without an approval. `Decider` asks the policy."""

    def permits(self, call: Call) -> Callable[[str], bool]: ...
    def permitted(self, call: Call, kind: str) -> Permitted: ...


class Everything:
    """Permits everything: for a tool that its author tries, where no policy decides."""

    def permits(self, call: Call) -> Callable[[str], bool]:
        return lambda _: True

    def permitted(self, call: Call, kind: str) -> Permitted:
        return Permitted(allow=(("**",),))


def narrow(call: Call, action: Action, executor: ToolExecutor, rules: PermittedResources) -> Call:
    """The call with those stores of its groups that the rules permit, and a record of what was left out.

    A store that would need an approval is left out, too: approvals are for calls that name it.
    """
    groups = [template.group for template in action.templates if template.form == "each"]
    kinds = [template.kind for template in action.templates if template.form == "within"]
    if not groups and not kinds:
        return call
    permits = rules.permits(call)
    found = [f"store:{group}/{name}" for group in groups for name in executor.stores(call, group)]
    kept = [store for store in found if permits(store)]
    touches = tuple(ResourceAccess(access="read", resource=store, fixed=True) for store in kept)
    narrowing = Narrowing(
        left_out=tuple(store for store in found if store not in kept),
        permitted={kind: rules.permitted(call, kind) for kind in kinds},
    )
    return call.model_copy(update={"touches": (*touches, *call.touches), "narrowing": narrowing})


def check_narrowed(call: Call, action: Action) -> None:
    """Raise Refusal `policy_denied` if nothing of a group is left.

    INVARIANT: the refusal is the same whether there is no store or only forbidden ones.
    """
    for template in action.templates:
        own = f"store:{template.group}/"
        if template.form == "each" and not any(touch.resource.startswith(own) for touch in call.touches):
            raise Refusal(
                "policy_denied",
                f"no rule permits {call.action} to read any store below '{own}', or there is none",
                details={"reason": "no_rule_allows"},
                next_step="continue without this tool, and tell the user",
            )
