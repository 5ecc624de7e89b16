"""The first phase of a call, in each tier, in warm and in single-use sandboxes: it decodes and can do nothing else."""

from __future__ import annotations

import asyncio
import re
import signal
import textwrap
from collections.abc import Sequence
from typing import Any, Final, Literal

import pytest

from remit.core import Refusal
from remit.sandbox import CallContext, Output, Profile
from support.sandbox import ToolHarness, kill_sandboxes, sandbox

Trust = Literal["pinned", "none"]
HEAD: Final = """
import os, pathlib, tempfile, time
from typing import Annotated
from pydantic import AfterValidator

def write(path):
    with open(path, "a") as file:
        file.write("written")
"""
FIRST_PHASE: Final = (
    HEAD
    + """
tried = []

def _try(value):
    for path in ("out.md", "stores/notes/a", "new.md", f"{tempfile.gettempdir()}/own"):
        try:
            write(path)
            tried.append("written")
        except OSError:
            tried.append("refused")
    tried.append(os.environ.get("KEY", "no key"))
    return value

def act(text: Annotated[str, AfterValidator(_try)]) -> list[str]:
    write("out.md")
    write("stores/notes/a")
    return [*tried, os.environ["KEY"]]
"""
)


@pytest.fixture(params=["pinned", "none"])
def trust(request: pytest.FixtureRequest) -> Trust:
    """A warm sandbox, and one for each call."""
    chosen: Trust = request.param
    return chosen


def profile(harness: ToolHarness, code: str, **given: Any) -> Profile:
    made = harness.profile(**given)
    (made.code / "main.py").write_text(textwrap.dedent(code))
    return made


async def both(harness: ToolHarness, made: Profile, arguments: dict[str, Any], **given: Any) -> Output:
    async with sandbox(harness.tier).open(made, arguments) as opened:
        return await opened.run(CallContext(**given))


async def refusal(harness: ToolHarness, made: Profile, arguments: dict[str, Any]) -> Refusal:
    with pytest.raises(Refusal) as refused:
        await both(harness, made, arguments)
    return refused.value


async def test_decoding_writes_nothing_that_lasts_and_has_no_secret_and_the_function_has_both(
    harness: ToolHarness, trust: Trust
) -> None:
    made = profile(harness, FIRST_PHASE, writes=("out.md",), stores=("notes",), trust=trust)
    output = await both(harness, made, {"text": "x"}, variables={"KEY": "secret"})
    assert output.value == ["refused", "refused", "refused", "written", "no key", "secret"], output
    assert output.scratch is not None
    output.scratch.commit()
    assert (harness.root / "out.md").read_text() == "written"
    assert (harness.root / "stores/notes/a").read_text() == "written"
    assert not (harness.root / "new.md").exists()


async def test_a_call_that_is_not_run_after_decoding_leaves_no_process_and_no_effect(
    harness: ToolHarness, trust: Trust
) -> None:
    """A process that is killed in this moment leaves what this call leaves: the tool never learns of the second phase."""
    code = HEAD + "def act(text: str) -> None:\n    write('stores/notes/a')\n"
    made = profile(harness, code, stores=("notes",), trust=trust)
    async with sandbox(harness.tier).open(made, {"text": "x"}):
        await asyncio.sleep(0.05)
    assert list((harness.root / "stores/notes").iterdir()) == []
    assert (await both(harness, made, {"text": "x"})).code is None


@pytest.mark.parametrize("moment", ["before-the-second-frame", "before-it-reads-that"])
async def test_a_process_that_is_killed_before_its_function_is_called_is_known_not_to_have_called_it(
    harness: ToolHarness, trust: Trust, moment: str
) -> None:
    code = HEAD + "def act(text: str) -> None:\n    write('stores/notes/a')\n"
    made = profile(harness, code, stores=("notes",), trust=trust)
    async with sandbox(harness.tier).open(made, {"text": "x"}) as opened:
        if moment == "before-the-second-frame":
            kill_sandboxes()
            output = await opened.run()
        else:
            kill_sandboxes(signal.SIGSTOP)
            under_way = asyncio.create_task(opened.run())
            for _ in range(20):  # until the frame is sent
                await asyncio.sleep(0)
            kill_sandboxes()
            output = await under_way
    assert (output.code, output.entered) == ("tool_crashed", False), output
    assert list((harness.root / "stores/notes").iterdir()) == []
    assert (await both(harness, made, {"text": "x"})).entered


async def test_a_call_that_must_be_ended_before_its_second_frame_does_not_get_it(
    harness: ToolHarness, trust: Trust
) -> None:
    """A validator leaves a thread behind, which prints more than a call may while the broker records the attempt."""
    code = (
        HEAD
        + """
import threading

def _leave(value):
    threading.Thread(target=lambda: [time.sleep(0.1), [os.write(1, b"x" * 65_536) for _ in range(64)]]).start()
    return value

def act(text: Annotated[str, AfterValidator(_leave)]) -> None:
    write("stores/notes/a")
"""
    )
    made = profile(harness, code, stores=("notes",), trust=trust)
    async with sandbox(harness.tier).open(made, {"text": "x"}) as opened:
        await asyncio.sleep(0.6)
        output = await opened.run()
    assert (output.code, output.entered) == ("resource_exhausted", False), output
    assert list((harness.root / "stores/notes").iterdir()) == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param("os._exit(3)", "tool_crashed", id="exits"),
        pytest.param("time.sleep(30)", "timeout", id="sleeps"),
        pytest.param("return 'done'", None, id="returns"),
    ],
)
async def test_a_function_that_was_called_counts_as_called_however_it_ends(
    harness: ToolHarness, trust: Trust, body: str, code: str | None
) -> None:
    source = HEAD + f"def act(text: str) -> str:\n    {body}\n"
    output = await both(harness, profile(harness, source, wall=1.0, trust=trust), {"text": "x"})
    assert (output.code, output.entered) == (code, True), output


async def test_a_result_that_json_cannot_represent_is_an_invalid_output(harness: ToolHarness, trust: Trust) -> None:
    """Bytes within another type are a text, or nothing that JSON has."""
    source = HEAD + "def act(text: str) -> list[bytes]:\n    return [text.encode('latin-1')]\n"
    made = profile(harness, source, trust=trust)
    refused, written = await both(harness, made, {"text": "\xff"}), await both(harness, made, {"text": "a"})
    assert (refused.code, refused.entered) == ("invalid_output", True)
    assert refused.message.startswith("the result is not JSON: "), refused.message
    assert written.value == ["a"]


BYTES: Final = """
from typing import Annotated, Any, Iterator

PNG = b"\\x89PNG\\r\\n\\x1a\\n"

def said() -> bytes:
    return PNG

async def said_later() -> bytes:
    return PNG

def as_text() -> str:
    return PNG

def as_any() -> Any:
    return PNG

def as_object() -> object:
    return PNG

def as_blocks() -> list[dict[str, Any]]:
    return PNG

def in_a_block() -> list[dict[str, Any]]:
    return [{"type": "image", "base64": PNG, "mime_type": "image/png"}]

def in_fields() -> dict[str, bytes]:
    return {"a": PNG}

def optional() -> bytes | None:
    return PNG

def annotated() -> Annotated[bytes, 1]:
    return PNG

def other_bytes() -> bytes:
    return bytearray(PNG)

def bytes_in_a_list() -> bytes:
    return [PNG]

def yielded() -> Iterator[bytes]:
    yield PNG

def yielded_as_bytes() -> bytes:
    yield PNG
"""


@pytest.mark.parametrize("action", re.findall(r"^(?:async )?def (\w+)", BYTES, re.MULTILINE))
async def test_only_a_function_whose_return_type_is_bytes_returns_them(full: ToolHarness, action: str) -> None:
    output = await both(full, profile(full, BYTES, action=action), {})
    if action.startswith("said"):
        block = {"type": "image", "base64": "iVBORw0KGgo=", "mime_type": "image/png"}
        assert (output.code, output.value) == (None, [block]), output
    else:
        assert (output.code, output.value, output.entered) == ("invalid_output", None, True), output
        assert output.message.startswith("the result is not JSON: "), output.message


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        pytest.param("time.sleep(30)", "timeout", id="sleeps"),
        pytest.param("os._exit(4)", "tool_crashed", id="exits"),
        pytest.param("os.kill(os.getpid(), 11)", "tool_crashed", id="is-killed"),
        pytest.param("bytearray(1 << 40)", "resource_exhausted", id="fills-the-memory"),
    ],
)
async def test_a_validator_that_does_not_return_is_ended_and_the_refusal_names_the_cause(
    harness: ToolHarness, trust: Trust, body: str, cause: str
) -> None:
    code = (
        HEAD
        + f"def _run(value):\n    {body}\n\ndef act(text: Annotated[str, AfterValidator(_run)]) -> str:\n    return text\n"
    )
    refused = await refusal(harness, profile(harness, code, wall=1.0, trust=trust), {"text": "x"})
    assert (refused.code, refused.details) == ("invalid_arguments", {"reason": "not_decoded", "cause": cause})


WORDS: Final = """
from typing import Annotated, TypedDict as _TypedDict
from typing_extensions import TypedDict
from pydantic import AfterValidator, BaseModel, Field

def _no(value):
    raise ValueError("the account is closed")

def _assert(value):
    assert value == "open", "only open accounts"
    return value

class _Line(BaseModel):
    sku: Annotated[str, Field(min_length=3)]

class _Row(TypedDict):
    at: Annotated[int, Field(ge=1)]

def raised(text: Annotated[str, AfterValidator(_no)]) -> str:
    return text

def asserted(text: Annotated[str, AfterValidator(_assert)]) -> str:
    return text

def nested(lines: list[_Line]) -> int:
    return len(lines)

def keyed(rows: dict[Annotated[str, AfterValidator(_assert)], int]) -> int:
    return len(rows)

def row(rows: list[_Row]) -> int:
    return len(rows)
"""


@pytest.mark.parametrize(
    ("action", "arguments", "message", "argument"),
    [
        ("raised", {"text": "x"}, "text: the account is closed", "text"),
        ("asserted", {"text": "x"}, "text: only open accounts", "text"),
        ("nested", {"lines": [{"sku": "abc"}, {"sku": "a"}]}, "lines.1.sku: String should have at least 3 characters", "lines.1.sku"),
        ("keyed", {"rows": {"SECRET-KEY": 1}}, "rows: only open accounts", "rows"),
        ("row", {"rows": [{"at": 0}]}, "rows.0.at: Input should be greater than or equal to 1", "rows.0.at"),
    ],
)  # fmt: skip
async def test_the_refusal_has_the_words_of_the_author_and_the_place_and_nothing_that_the_model_wrote(
    full: ToolHarness, action: str, arguments: dict[str, Any], message: str, argument: str
) -> None:
    refused = await refusal(full, profile(full, WORDS, action=action), arguments)
    assert refused.message == f"the tool does not accept the arguments: {message}"
    assert refused.details == {"reason": "refused_by_validator", "argument": argument}


ODD: Final = """
import asyncio, enum
from typing import Annotated, Literal
from pydantic import Field

class C(enum.Enum):
    A = "a"

def names(model_config: int, _x: int, model_dump: str = "d") -> list:
    return [model_config, _x, model_dump]

def alias(x: Annotated[int, Field(alias="externalX")]) -> int:
    return x

def factory(x: Annotated[list[int], Field(default_factory=list)]) -> list[int]:
    return x

def fielded(x: int = Field(default=3, ge=1)) -> int:
    return x

def annotated_default(x: Annotated[int, Field(default=3, ge=1)]) -> int:
    return x

def literal(x: list[Literal[C.A]]) -> str:
    return x[0].name

def integers(x: dict[int, str]) -> str:
    return x[1]

def nothing(x: Annotated[int, Field(ge=1)] = None) -> str:
    return repr(x)

def number(x: float) -> str:
    return repr(x)

async def later(x: int) -> int:
    await asyncio.sleep(0)
    return x
"""


@pytest.mark.parametrize(
    ("action", "arguments", "value"),
    [
        ("names", {"model_config": 1, "_x": 2}, [1, 2, "d"]),
        ("alias", {"externalX": 4}, 4),
        ("factory", {}, []),
        ("fielded", {}, 3),
        ("annotated_default", {}, 3),
        ("annotated_default", {"x": 4}, 4),
        ("literal", {"x": ["a"]}, "A"),
        ("integers", {"x": {"1": "one"}}, "one"),
        ("nothing", {"x": None}, "None"),
        ("number", {"x": 1}, "1.0"),
        ("later", {"x": 1}, 1),
    ],
)
async def test_a_function_gets_what_its_signature_says(
    full: ToolHarness, action: str, arguments: dict[str, Any], value: object
) -> None:
    output = await both(full, profile(full, ODD, action=action), arguments)
    assert (output.code, output.value) == (None, value), output


async def test_the_named_arguments_are_reported_as_the_function_gets_them(full: ToolHarness) -> None:
    code = HEAD + "def act(a: Annotated[str, AfterValidator(str.upper)], b: str, c: int) -> str:\n    return a\n"
    plain = HEAD + "def act(a: str) -> str:\n    return a\n"

    async def decoded(source: str, named: Sequence[str], arguments: dict[str, Any]) -> object:
        async with sandbox("full").open(profile(full, source), arguments, named=named) as opened:
            return opened.decoded

    assert await decoded(code, ["a", "c"], {"a": "x", "b": "y", "c": 1}) == {"a": "X", "c": 1}
    assert await decoded(plain, ["a"], {"a": "x"}) is None
