"""Remit: a policy broker and sandbox for the tool calls of AI agents."""

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """The first public name that is used. The face is made then: a command that a service executes needs none of them."""
    from remit._face import face  # noqa: PLC0415 - it costs a third of such a command

    found = dict(zip(("__getattr__", "__dir__", "__all__"), face(__name__, __file__), strict=True))
    globals().update(found)
    return globals()[name] if name in globals() else found["__getattr__"](name)  # type: ignore[operator]


def __dir__() -> list[str]:
    __getattr__("__all__")
    return globals()["__dir__"]()  # type: ignore[no-any-return]
