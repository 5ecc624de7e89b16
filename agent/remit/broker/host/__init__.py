"""What runs in this process: host tools and LangChain tools, which are not confined, and Remit's own action."""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
