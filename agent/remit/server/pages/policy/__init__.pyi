from .drafts import Drafts, draft_of_rule
from .editor import EditorPages
from .questions import AREA, QuestionPages

__all__ = ["AREA", "Drafts", "EditorPages", "QuestionPages", "draft_of_rule"]
