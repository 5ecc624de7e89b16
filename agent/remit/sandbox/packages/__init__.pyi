from .environment import Environment, check_environment, find_environment, lock_environment, make_environment

__all__ = ["Environment", "check_environment", "find_environment", "lock_environment", "make_environment"]
