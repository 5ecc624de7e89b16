from .results import Check, Evaluation, Grade, GradeOutcome, ScenarioInfo, Variant

__all__ = ["Check", "Evaluation", "Grade", "GradeOutcome", "ScenarioInfo", "Variant"]
