"""Remit: a policy broker and sandbox for the tool calls of AI agents."""

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """The first public name that is used. The face is made then: a command that a service executes needs none of them."""
    from remit._face import face  # noqa: PLC0415 - it costs a third of such a command

    get, names, public = face(__name__, __file__)
    globals().update(__getattr__=get, __dir__=names, __all__=public)
    return globals()[name] if name in globals() else get(name)


def __dir__() -> list[str]:
    __getattr__("__all__")
    return globals()["__dir__"]()  # type: ignore[no-any-return]
