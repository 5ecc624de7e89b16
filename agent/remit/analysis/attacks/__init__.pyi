from .accepted import Acceptance, read_accepted
from .report import TARGETS, AttackReport, Read, Untried, Way
from .trying import attack_agent

__all__ = ["TARGETS", "Acceptance", "AttackReport", "Read", "Untried", "Way", "attack_agent", "read_accepted"]
