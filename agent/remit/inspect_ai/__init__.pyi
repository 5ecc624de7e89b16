from .approver import remit_approver
from .logs import write_logs
from .models import InspectModel
from .solver import remit_solver

__all__ = ["InspectModel", "remit_approver", "remit_solver", "write_logs"]
