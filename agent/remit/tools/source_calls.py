"""Finds in main.py of a tool what its sandbox refuses or what ends a call otherwise than meant: files, hosts, programs, exits, waits.

It reads literal values only, so it misses what the code computes; a call that is not meant as it looks is a note, never an error.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, TypeAlias

from remit.core import Level, one_of
from remit.sandbox.egress import parse_host
from remit.workspace.manifest import Action, Manifest

# The level, the place, what is found, and what to write.
Found: TypeAlias = tuple[Level, ast.AST, str, str]
Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef

_WRITES: Final = frozenset({"write_text", "write_bytes", "unlink", "touch", "mkdir", "rename", "replace", "rmdir"})
_EXITS: Final = frozenset({"exit", "quit", "sys.exit", "os._exit", "os.abort"})
_ELSEWHERE: Final = ("/home/", "/root/", "/var/", "/srv/", "/mnt/", "/opt/", "~/")
_URL: Final = re.compile(r"(https?)://([a-z0-9-]+(?:\.[a-z0-9-]+)+)(?::([0-9]{1,5}))?(?:[/?#]|$)")
_OPEN_RESULTS: Final = frozenset({"Any", "object"})


def found_in_function(manifest: Manifest, action: Action, function: Function) -> Iterator[Found]:
    """What is wrong between one function and its action."""
    parameters = {one.arg for one in (*function.args.args, *function.args.kwonlyargs, *function.args.posonlyargs)}
    for template in action.templates:
        if template.argument and template.argument not in parameters and function.args.kwarg is None:
            what = f"touches of {action.name} names {template.argument!r}, and the function has no such parameter"
            yield "error", function, what, one_of(template.argument, parameters)
    yield from _written(action, function, parameters)
    yield from _defaults(function)
    yield from _result(action, function)
    for node in ast.walk(function):
        if isinstance(node, ast.Call):
            yield from _ending(manifest, node)


def _written(action: Action, function: Function, parameters: set[str]) -> Iterator[Found]:
    """Files that an argument names, opened for writing, while the action may only read them."""
    access: dict[str, set[str]] = {}
    for template in action.templates:
        if template.kind == "file" and template.argument in parameters:
            access.setdefault(template.argument, set()).add(template.access)
    for node in ast.walk(function):
        name = _written_name(node) if isinstance(node, ast.Call) else ""
        if access.get(name) == {"read"}:
            what = f"{action.name} writes the file that {name!r} names, and its touches only read it"
            fix = f'write "write file:{{{name}}}" in touches, write = […] in [at_most], and the effect of the action'
            yield "warning", node, what, fix


def _written_name(call: ast.Call) -> str:
    """The variable that names the file which this call writes: `open(NAME, "w")`, `Path(NAME).write_text(…)`; "" for other calls."""
    match call:
        case ast.Call(func=ast.Name(id="open"), args=[ast.Name(id=name), ast.Constant(value=str() as mode), *_]):
            return name if set(mode) & set("wax+") else ""
        case ast.Call(func=ast.Attribute(attr=attr, value=ast.Call(func=of, args=[ast.Name(id=name)]))):
            return name if attr in _WRITES and _dotted(of).rpartition(".")[2] == "Path" else ""
        case _:
            return ""


def _defaults(function: Function) -> Iterator[Found]:
    """Defaults that are not of the type beside them: each call without the argument would be refused."""
    given = function.args
    ordered = given.args[len(given.args) - len(given.defaults) :]
    pairs = [*zip(ordered, given.defaults, strict=True), *zip(given.kwonlyargs, given.kw_defaults, strict=True)]
    for one, default in pairs:
        match one.annotation, default:
            case ast.Name(id=("int" | "float" | "str" | "bool") as kind), ast.Constant(value=value):
                if type(value).__name__ != kind and (kind, type(value)) != ("float", int):
                    fix = f"write {one.arg}: {kind} | None" if value is None else f"write a default of the type {kind}"
                    yield "error", one, f"the default of {one.arg!r} is {value!r}, which is not of its type {kind}", fix
            case _:
                pass


def _result(action: Action, function: Function) -> Iterator[Found]:
    """A function that never returns a value, and a type that says nothing about the result."""
    if function.returns is None:
        return
    names = {node.id for node in ast.walk(function.returns) if isinstance(node, ast.Name)}
    text = ast.unparse(function.returns)
    if not (names & (_OPEN_RESULTS | {"Optional"}) or "None" in text or "Never" in text or "NoReturn" in text):
        inner = list(own_nodes(function))
        ends = isinstance(function.body[-1], ast.Raise | ast.While)
        gives = ends or any(isinstance(node, ast.Yield | ast.YieldFrom) for node in inner)
        if not gives and not any(isinstance(node, ast.Return) and node.value is not None for node in inner):
            what = f"{action.name} never returns a value, and its result is {text}"
            yield "warning", function, what, "return the result; what it prints is not part of it"
    if names & _OPEN_RESULTS:
        what = f"the type of the result of {action.name} is {text}, which checks nothing"
        yield "note", function, what, "write the type that it returns: what JSON cannot represent fails the call"


def _ending(manifest: Manifest, call: ast.Call) -> Iterator[Found]:
    """Calls that end or hold up the process of the tool."""
    name = _dotted(call.func)
    if name in _EXITS:
        what = f"{name}() ends the process, and the call ends as tool_crashed"
        yield "warning", call, what, "return a value, or raise an exception whose error the action declares"
    elif name == "input":
        yield "warning", call, "input() has nobody to ask", "take what it asks for as a parameter"
    elif name in ("time.sleep", "sleep", "asyncio.sleep") and call.args:
        seconds = call.args[0].value if isinstance(call.args[0], ast.Constant) else None
        if isinstance(seconds, int | float) and seconds >= manifest.limits.wall:
            what = f"it waits {seconds:g} s, and a call has {manifest.limits.wall:g} s"
            yield "warning", call, what, "write a longer wall in [limits], or wait less"


def found_in_module(
    manifest: Manifest, folder: Path, tree: ast.Module, functions: Mapping[str, Function]
) -> Iterator[Found]:
    """What is wrong anywhere in the file."""
    yield from _twice(tree, functions)
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)]  # docstrings and other bare texts
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(level=1 | 2 | 3, module=module):
                what = "a relative import: main.py is no part of a package"
                yield "error", node, what, f"write from {module or 'NAME'} import …"
            case ast.Call():
                yield from _opened(folder, node)
                yield from _shell(manifest, node)
            case ast.Constant(value=str() as text) if node not in texts and (url := _URL.match(text)) is not None:
                yield from _reached(manifest, node, *url.groups())
            case _:
                pass


def _twice(tree: ast.Module, functions: Mapping[str, Function]) -> Iterator[Found]:
    for node in tree.body:
        if isinstance(node, Function) and functions[node.name] is not node:
            what = f"function {node.name!r} is defined again in line {functions[node.name].lineno}, which replaces it"
            yield "warning", node, what, "remove one of them, or give it another name"


def _opened(folder: Path, call: ast.Call) -> Iterator[Found]:
    """Files that a literal names: a call runs in its working folder, and sees no other folder of the machine."""
    match call:
        case ast.Call(func=of, args=[ast.Constant(value=str() as name), *_]) if _dotted(of).rpartition(".")[2] in (
            "open",
            "Path",
        ):
            if name.startswith(_ELSEWHERE):
                what = f"it opens {name!r}, and a call sees its working folder and its tool's folder only"
                yield "warning", call, what, "put the file beside main.py, or take it as a parameter that touches names"
            elif name.strip("./") and not name.startswith("/") and (folder / name).is_file():
                what = f"it opens {name!r} in the working folder of the call, and the tool's own file is beside main.py"
                yield "warning", call, what, f"write Path(__file__).with_name({name!r})"
        case _:
            pass


def _shell(manifest: Manifest, call: ast.Call) -> Iterator[Found]:
    """A command line as one text: a shell starts it."""
    name = _dotted(call.func)
    through = name in ("os.system", "os.popen") or (
        name.startswith("subprocess.")
        and any(
            one.arg == "shell" and isinstance(one.value, ast.Constant) and one.value.value is True
            for one in call.keywords
        )
    )
    if through and "sh" not in manifest.programs:
        what = "it starts a shell, which the manifest does not grant"
        yield "warning", call, what, 'write subprocess.run(["program", …]), and its name in programs in [always]'


def _reached(manifest: Manifest, node: ast.AST, scheme: str, name: str, port: str | None) -> Iterator[Found]:
    """Hosts in URLs of the code that no line of the manifest covers, and secrets that plain HTTP would not send."""
    number = int(port) if port else 443 if scheme == "https" else 80
    lines = (*manifest.hosts, *manifest.url_hosts)
    if scheme == "http" and any(item.name == name for item in manifest.credentials):
        what = f"it names {name} over plain HTTP, and the secret of that host is sent only under TLS"
        yield "warning", node, what, "write https://"
    elif not any(parse_host(line).covers(name, number) for line in lines):
        what = f"it names {name}:{number}, which no line of hosts covers"
        yield "note", node, what, f'if a call connects to it: write hosts = ["{name}:{number}"] in [always]'


def found_raised(tree: ast.Module, declared: Sequence[str]) -> Iterator[Found]:
    """Exceptions of Python that the code raises, and neither catches nor declares: the caller reads `tool_crashed`."""
    caught = {
        node.id
        for handler in ast.walk(tree)
        if isinstance(handler, ast.ExceptHandler) and handler.type is not None
        for node in ast.walk(handler.type)
        if isinstance(node, ast.Name)
    } | {*declared}
    for node in ast.walk(tree):
        raised = node.exc if isinstance(node, ast.Raise) else None
        name = _dotted(raised.func if isinstance(raised, ast.Call) else raised) if raised is not None else ""
        kind = getattr(builtins, name, None)
        if (
            isinstance(kind, type)
            and issubclass(kind, Exception)
            and not caught & {one.__name__ for one in kind.__mro__}
        ):
            what = f"{name} is raised, and no action declares it: the call would end as tool_crashed"
            yield "note", node, what, f'write errors = {{ a_name = "{name}" }} for the actions that raise it'


def own_nodes(function: Function) -> Iterator[ast.AST]:
    """The nodes of a function without those of functions inside of it."""
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            waiting.extend(ast.iter_child_nodes(node))


def _dotted(node: ast.AST) -> str:
    """`os.path.join` for that attribute; "" for what is no name."""
    match node:
        case ast.Name(id=name):
            return name
        case ast.Attribute(value=inner, attr=attr):
            return f"{_dotted(inner)}.{attr}"
        case _:
            return ""
