"""Says when the runs of an agent change, and when they cost or take more than they should: drift, targets, alerts.

detector    the runs at which one measure changed, with a stated rate of false alarms
measures    what each run says of each measure
causes      which change of the workspace fits a drift best
drift       the drifts of an agent
targets     times and costs, compared with what they should be
alerts      what was seen, kept until a person closes it
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
