from .environment import (
    Environment,
    base_python,
    check_environment,
    find_environment,
    lock_environment,
    make_environment,
)
from .requirements import LOCK
from .wheels import WheelStore, locked_wheels

__all__ = [
    "LOCK",
    "Environment",
    "WheelStore",
    "base_python",
    "check_environment",
    "find_environment",
    "lock_environment",
    "locked_wheels",
    "make_environment",
]
