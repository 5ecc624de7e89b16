"""Says how good an agent is, and whether a change makes it worse: scenarios, grades, comparisons.

results      the grades of an evaluation, as every report and every comparison reads them
scenarios    the rows of `agent/NAME/evals/*.yaml`
worlds       the working folder of a scenario, and the answers of what is outside of it
definitions  the variants of an agent that are compared
grading      what a run has done against what its scenario expects
judges       agents that judge answers, and whether they count
player       plays the runs of an evaluation, and records their grades
stored       evaluations as the journal has them
rollouts     opens rollouts, and moves them through their stages
comparisons  tries the candidate of a rollout on recorded runs
baseline     the reviewed outcomes with which an evaluation is compared
statistics/  rates, intervals, pass^k, comparison, and what a suite can see
reports/     an evaluation as text, JSON, JUnit XML, a page and a comment
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
