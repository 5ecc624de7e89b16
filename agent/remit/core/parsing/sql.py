"""Parses one read-only SQLite query and finds the tables that it reads, before it runs.

The query is rendered from its syntax tree. The rendered text is parsed again, checked and given to the tool, so no part of
the original text reaches SQLite that this parser has not read. Only the listed kinds of nodes and functions are accepted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Final, NoReturn

import sqlglot
from sqlglot import exp
from sqlglot.errors import ErrorLevel, SqlglotError

from remit.core.errors import Refusal

LONGEST_QUERY: Final = 20_000  # characters
DIALECT: Final = "sqlite"

_NODES: Final = (
    exp.Select, exp.SetOperation, exp.Subquery, exp.With, exp.CTE, exp.TableAlias, exp.Table, exp.From, exp.Join,
    exp.Where, exp.Group, exp.Having, exp.Order, exp.Ordered, exp.Limit, exp.Offset, exp.Distinct, exp.Window,
    exp.WindowSpec, exp.Filter, exp.Column, exp.Star, exp.Identifier, exp.Literal, exp.HexString, exp.Null, exp.Boolean,
    exp.Tuple, exp.Values, exp.Alias, exp.Case, exp.If, exp.Cast, exp.DataType, exp.DataTypeParam, exp.Collate,
    exp.Between, exp.In, exp.Escape, exp.JSONPath, exp.JSONPathPart, exp.Var, exp.Exists, exp.Binary, exp.Unary, exp.Func,
)  # fmt: skip
# Scalar, aggregate, window, date and JSON functions of https://sqlite.org/lang_corefunc.html and its siblings that depend
# on nothing but their arguments. Not here: load_extension, the shell's readfile, writefile and edit, fts3_tokenizer,
# sqlite_* (settings), random (a replay must read the same), zeroblob and randomblob (memory).
_FUNCTIONS: Final = {
    "abs", "changes", "char", "coalesce", "concat", "concat_ws", "format", "glob", "hex", "ifnull", "iif", "instr",
    "length", "like", "likelihood", "likely", "lower", "ltrim", "max", "min", "nullif", "octet_length", "printf",
    "quote", "replace", "round", "rtrim", "sign", "soundex", "substr", "substring", "trim", "typeof", "unhex",
    "unicode", "unlikely", "upper", "avg", "count", "group_concat", "string_agg", "sum", "total", "row_number",
    "rank", "dense_rank", "percent_rank", "cume_dist", "ntile", "lag", "lead", "first_value", "last_value",
    "nth_value", "date", "time", "datetime", "julianday", "unixepoch", "strftime", "timediff", "json", "json_array",
    "json_array_length", "json_error_position", "json_extract", "json_group_array", "json_group_object",
    "json_insert", "json_object", "json_patch", "json_pretty", "json_quote", "json_remove", "json_replace",
    "json_set", "json_type", "json_valid", "acos", "asin", "atan", "atan2", "ceil", "ceiling", "cos", "degrees",
    "exp", "floor", "ln", "log", "log10", "log2", "mod", "pi", "pow", "power", "radians", "sin", "sqrt", "tan",
    "trunc", "cast", "decimal", "numeric", "varchar",
}  # fmt: skip
# Keywords that may be followed by a parenthesis and are not a function call.
_WORDS: Final = {
    "all", "and", "as", "between", "by", "case", "distinct", "else", "escape", "except", "exists", "filter", "from",
    "glob", "having", "in", "intersect", "is", "join", "limit", "like", "materialized", "not", "offset", "on", "or",
    "order", "over", "select", "then", "union", "using", "values", "when", "where",
}  # fmt: skip
_TABLE_PARTS: Final = frozenset({"this", "db", "alias", "joins"})


def read_only(sql: str, table_name: Callable[[str], str]) -> tuple[str, tuple[str, ...]]:
    """The query rendered from its syntax tree, and the base tables that it reads, sorted.

    `table_name` returns the canonical name of a table.

    Raises:
        Refusal: `invalid_arguments` for anything but one SELECT of supported parts.
    """
    if len(sql) > LONGEST_QUERY or any(character < " " and character not in "\t\r\n" for character in sql):
        _refuse("text", f"write at most {LONGEST_QUERY} plain characters")
    try:
        rendered = _render(_parse(sql))
        tree = _parse(rendered)
        if _render(tree) != rendered:
            _refuse("unstable", "write a simpler query")
        _check_nodes(tree)
        _check_functions(tree)
        return rendered, tuple(sorted({table_name(name) for name in _tables(tree)}))
    except (SqlglotError, RecursionError, ValueError) as failure:
        raise _refusal("syntax", "it cannot be parsed as SQL") from failure


def _parse(sql: str) -> exp.Expr:
    trees = [tree for tree in sqlglot.parse(sql, read=DIALECT, error_level=ErrorLevel.IMMEDIATE) if tree is not None]
    if len(trees) != 1:
        _refuse("statements", "write exactly one query")
    if not isinstance(trees[0], exp.Select | exp.SetOperation):
        _refuse("not_a_query", "write a SELECT")
    return trees[0]


def _render(tree: exp.Expr) -> str:
    return tree.sql(dialect=DIALECT, comments=False, unsupported_level=ErrorLevel.IMMEDIATE)


def _check_nodes(tree: exp.Expr) -> None:
    for node in tree.walk():
        if not isinstance(node, _NODES):
            _refuse("unsupported", f"write it without {type(node).__name__.lower()}, which is not supported")
        match node:
            case exp.In() if node.args.get("field") or node.args.get("unnest"):
                _refuse(
                    "in_table", "write IN (SELECT …)"
                )  # `x IN secret` reads a table that is no table node in the tree
            case exp.Select() if node.args.get("into") or node.args.get("locks"):
                _refuse("not_a_query", "write a SELECT")
            case exp.Table():
                parts = {part for part, value in node.args.items() if value}
                if not isinstance(node.this, exp.Identifier) or not parts <= _TABLE_PARTS:
                    _refuse("table_function", "write only tables and subqueries after FROM")
            case _:
                pass


def _check_functions(tree: exp.Expr) -> None:
    """Check every name before a parenthesis in the rendered text, quoted or not: SQLite would call it as a function."""
    bare = tree.copy()
    for alias in bare.find_all(exp.TableAlias):
        alias.set("columns", None)  # `c(n)` in `WITH c(n) AS …` is no function call
    for name, after in pairwise(sqlglot.tokenize(_render(bare), read=DIALECT)):
        if after.token_type.name != "L_PAREN" or not name.text[:1].isidentifier():
            continue
        called = name.text.lower()
        quoted = name.token_type.name == "IDENTIFIER"
        if called not in _FUNCTIONS and (quoted or called.split(" ")[-1] not in _WORDS):  # "ORDER BY" is one token
            _refuse("function", "write it with other functions: it calls one that is not allowed")


def _tables(tree: exp.Expr) -> Iterator[str]:
    """The names of the base tables as written, also with the prefix `main.`."""
    defined = [_fold(cte.alias) for cte in tree.find_all(exp.CTE)]
    if len(defined) != len(set(defined)):
        _refuse("ambiguous", "give each WITH a different name")
    for table in tree.find_all(exp.Table):
        if table.db:
            yield f"{table.db}.{table.name}"
        elif _fold(table.name) not in defined:
            yield table.name
        elif not _in_scope(table):
            _refuse("ambiguous", "give the WITH another name than the table has")


def _in_scope(table: exp.Table) -> bool:
    """True if the WITH of that name is visible here: in its query, in later WITHs, and in itself if it is recursive."""
    name = _fold(table.name)
    inside: exp.Expr = table
    while (around := inside.parent) is not None:
        if isinstance(around, exp.With):
            names = [_fold(cte.alias) for cte in around.expressions]
            here = next(number for number, cte in enumerate(around.expressions) if cte is inside)
            if name in names[: here + 1 if around.recursive else here]:
                return True
            around = around.parent or around  # skip the query of this WITH: it would make later WITHs visible
        elif (with_ := around.args.get("with_")) is not None and name in [
            _fold(cte.alias) for cte in with_.expressions
        ]:
            return True
        inside = around
    return False


def _fold(name: str) -> str:
    """The name as SQLite compares it: without the case of ASCII letters."""
    return "".join(character.lower() if character.isascii() else character for character in name)


def _refuse(problem: str, fix: str) -> NoReturn:
    raise _refusal(problem, fix)


def _refusal(problem: str, fix: str) -> Refusal:
    return Refusal("invalid_arguments", f"not one read-only query: {fix}", details={"kind": "sql", "problem": problem})
