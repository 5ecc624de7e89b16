from .evidence import RATIOS, EProcess, bet, chance_of_arm

__all__ = ["RATIOS", "EProcess", "bet", "chance_of_arm"]
