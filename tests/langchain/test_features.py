"""What LangChain and LangGraph offer, each played plain and under Remit: the same meaning, or one named difference."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from remit.langchain.middleware import RemitMiddleware
from support.langchain_features import FEATURES, PAGE, Feature, Kit, page
from support.workspaces.features import features_workspace


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return features_workspace(tmp_path_factory.mktemp("features"))


@pytest.fixture(scope="module")
def shop(workspace: Path) -> Iterator[Any]:
    sys.path.insert(0, str(workspace))
    yield importlib.import_module("features_shop")
    sys.path.remove(str(workspace))
    sys.modules.pop("features_shop", None)


@pytest.fixture(scope="module")
def remit(workspace: Path) -> Iterator[RemitMiddleware]:
    with RemitMiddleware("desk", task="Use the tools", workspace=workspace) as made:
        yield made


def test_the_table_has_at_least_sixty_features_with_names_of_their_own() -> None:
    assert len({item.name for item in FEATURES}) == len(FEATURES) >= 60


@pytest.mark.parametrize("item", FEATURES, ids=lambda item: item.name)
def test_a_feature_means_the_same_under_remit_or_differs_as_named(
    item: Feature, shop: Any, remit: RemitMiddleware
) -> None:
    plain = item.play(Kit(shop=shop, remit=None, feature=item.name))
    under = item.play(Kit(shop=shop, remit=remit, feature=item.name))
    remit.finish()
    assert (under == plain) is (item.differs == ""), (plain, under)


def test_the_page_has_the_features_and_the_differences() -> None:
    assert page() == PAGE.read_text("utf-8"), "run tests/support/langchain_features.py --write"
