from .comparison import Comparison, ScenarioChange, Verdict, comparable, compare
from .intervals import difference_interval, suite_interval, wilson_interval
from .outcomes import ScenarioOutcomes, VariantOutcomes, outcomes_of
from .power import chance_to_see, visible_drop
from .reliability import pass_hat_k, suite_pass_hat
from .significance import ALPHA, EVIDENCE_ALPHA, SCENARIO_ALPHA, SUITE_ALPHA
from .summary import HardFailure, ScenarioSummary, VariantSummary, summarize

__all__ = [
    "ALPHA",
    "EVIDENCE_ALPHA",
    "SCENARIO_ALPHA",
    "SUITE_ALPHA",
    "Comparison",
    "HardFailure",
    "ScenarioChange",
    "ScenarioOutcomes",
    "ScenarioSummary",
    "VariantOutcomes",
    "VariantSummary",
    "Verdict",
    "chance_to_see",
    "comparable",
    "compare",
    "difference_interval",
    "outcomes_of",
    "pass_hat_k",
    "suite_interval",
    "suite_pass_hat",
    "summarize",
    "visible_drop",
    "wilson_interval",
]
