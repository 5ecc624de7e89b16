"""Links, lists and the order of pages, as the site has them."""

from __future__ import annotations

import pytest

from generator.repository import linked_files, linked_pages, rewritten, swallowed_lists
from generator.theme import corrected, navigation


@pytest.mark.parametrize(
    ("page", "link", "place"),
    [
        ("results.md", "../SECURITY.md#limits", "project/SECURITY.md#limits"),
        ("security/README.md", "../../SECURITY.md", "../project/SECURITY.md"),
        ("security/README.md", "owasp.md", "owasp.md"),
        ("security/README.md", "../../tools/", "../project/tools/README.md"),
        ("results.md", "../tools/result.schema.json", "files/tools/result.schema.json.txt"),
        ("project/README.md", "docs/security/README.md", "../security/README.md"),
        ("project/tools/README.md", "../policies/README.md#rules", "../policies/README.md#rules"),
        ("results.md", "https://example.com/a.md", "https://example.com/a.md"),
        ("results.md", "../no-such-file.md", "../no-such-file.md"),
    ],
)
def test_a_link_to_a_file_outside_of_docs_leads_to_its_place_in_the_site(page: str, link: str, place: str) -> None:
    assert rewritten(page, f"[a]({link}) and `[a]({link})`\n") == f"[a]({place}) and `[a]({link})`\n"
    assert rewritten(page, f"```\n[a]({link})\n```\n") == f"```\n[a]({link})\n```\n"
    assert set(linked_files({page: f"[a]({link})"})) == ({place} if place.startswith("files/") else set())


def test_a_new_page_is_in_the_navigation_and_the_index_of_a_folder_is_first() -> None:
    pages = ["z.md", "how-to/b.md", "how-to/README.md", "a.md", "README.md", "concepts/x.md"]
    assert navigation(pages, ["README.md", "how-to", "z.md"]) == [
        "README.md",
        {"How to": ["how-to/README.md", "how-to/b.md"]},
        "z.md",
        "a.md",
        {"Concepts": ["concepts/x.md"]},
    ]


def test_the_index_of_a_folder_gives_the_order_of_its_pages() -> None:
    index = "| [b](b.md) | [b](b.md#x) |\n\n`[c](c.md)`, [a](a.md), [a file](b.py)\n"
    assert linked_pages("how-to/README.md", index) == ["how-to/b.md", "how-to/b.md", "how-to/a.md"]


def test_a_list_that_mkdocs_would_show_as_text_is_found() -> None:
    assert swallowed_lists("Read:\n- a\n- b\n") == [2]
    assert swallowed_lists("Read:\n\n- a\n  more\n- b\n\n1. a\n2. b\n\n```\nx\n- a\n```\n# A\n- a\n") == []


def test_a_theme_that_has_changed_is_an_error() -> None:
    with pytest.raises(ValueError, match="the theme's search has changed"):
        corrected("<html></html>")


def test_the_picture_of_the_readme_is_the_same_for_every_run_of_the_demonstration() -> None:
    """What differs is replaced: numbers of runs, times, and the order of calls that ran side by side."""
    pytest.importorskip("rich")
    from generator import picture

    def drawn(run: str, seconds: str, *calls: str) -> str:
        lines = [
            f"run {run}  agent:triage",
            *calls,
            f"waited {seconds} s",
            f"ok  tickets.close {picture.LAST}",
            "never shown",
        ]
        return picture.picture(picture.first_part(picture.same_each_time("\n".join(lines))))

    one = drawn("0" * 32, "1.25", "ok    a.b", "failed  c.d")
    assert one == drawn("f" * 32, "0.3", "failed  c.d", "ok    a.b")
    assert one != drawn("f" * 32, "0.3", "failed  c.d", "refused  a.b")
    assert "never shown".replace(" ", "&#160;") not in one
    shown = picture.PICTURE.read_text()
    assert "policy_denied" in shown
    assert "http" not in shown.replace('xmlns="http://www.w3.org/2000/svg"', "")  # it loads nothing from elsewhere
