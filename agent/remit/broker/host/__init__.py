"""Host tools: functions of this process, and LangChain tools. They are not confined."""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
