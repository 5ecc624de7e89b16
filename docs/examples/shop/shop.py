"""The LangChain tools of a shop. Nothing here knows Remit."""

from langchain_core.tools import tool


@tool
def get_order(order: str) -> str:
    """Read an order."""
    return f"order {order}: a lamp, 40 EUR"


@tool
def refund(order: str, amount: int) -> str:
    """Give money back."""
    return f"refunded {amount} EUR for order {order}"


TOOLS = [get_order, refund]
