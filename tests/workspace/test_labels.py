"""`policies/labels.toml`: labels of results by the resources that they come from."""

from __future__ import annotations

import pytest

from remit.core.calls import ResourceAccess
from remit.core.errors import WorkspaceError
from remit.workspace.labels import labels_of, read_labels

RULES = read_labels(
    """
[[label]]
note = "People's files"
labels = ["private"]
files = ["hr/**", "logs/*.csv"]

[[label]]
note = "Written by guests"
labels = ["untrusted", "guests"]
hosts = ["*.partner.example:443"]
resources = ["table:guestbook"]
"""
)


@pytest.mark.parametrize(
    ("resource", "labels"),
    [
        ("file:hr/ann.txt", ("private",)),
        ("file:hr", ()),
        ("file:logs/a.csv", ("private",)),
        ("file:logs/old/a.csv", ()),
        # a folder that is read whole, where some of it may have the label
        ("file:hr/2024/**", ("private",)),
        ("file:logs/**", ("private",)),
        ("file:**", ("private",)),
        ("file:docs/**", ()),
        ("https://api.partner.example/v1", ("untrusted", "guests")),
        ("https://partner.example/v1", ()),
        ("https://api.partner.example:8443/v1", ()),
        ("http://api.partner.example/v1", ()),
        ("table:guestbook", ("untrusted", "guests")),
        ("table:guestbook2", ()),
    ],
)
def test_what_comes_from_a_resource_has_its_labels(resource: str, labels: tuple[str, ...]) -> None:
    assert labels_of(RULES, [ResourceAccess(access="use", resource=resource)]) == labels


def test_a_call_that_touches_several_has_the_labels_of_each_once() -> None:
    touched = [ResourceAccess(access="read", resource=name) for name in ("file:hr/a", "file:hr/b", "table:guestbook")]
    assert labels_of(RULES, touched) == ("private", "untrusted", "guests")


@pytest.mark.parametrize(
    "text",
    [
        "[[label]]\nnote = 'x'\nlabels = ['private']",
        "[[label]]\nnote = 'x'\nlabels = []\nfiles = ['hr/**']",
        "[[label]]\nnote = 'x'\nlabels = ['Private!']\nfiles = ['hr/**']",
        "[[label]]\nnote = 'x'\nlabels = ['private']\nfiles = ['/**']",
        "[[label]]\nnote = 'x'\nlabels = ['private']\nhosts = ['*']",
        "[[label]]\nnote = 'x'\nlabels = ['private']\nresources = ['table:*']",
        "[[labels]]",
        "label = 1",
        "not toml",
    ],
)
def test_a_label_without_resources_or_with_invalid_values_is_refused(text: str) -> None:
    with pytest.raises(WorkspaceError):
        read_labels(text)
