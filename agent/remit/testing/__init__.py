"""For tests of agents, tools and policies with pytest.

A test gives the model's turns as data, runs the agent, and checks what was decided and what landed. Without an executor the
run is a real one: confined, recorded and replayable. With a `FakeExecutor` no tool runs, and the record is in memory only.

    from remit.testing import FakeExecutor, assert_denied, assert_effects, capture_run, effect, turn

    def test_a_customer_is_not_refunded_twice(remit_workspace):
        refund = turn(shop__refund={"order": "17"})
        fake = FakeExecutor({"shop.refund": "refunded"})

        run = capture_run(remit_workspace, "desk", "help the customer", model=[refund, refund, turn("done")], executor=fake)

        assert_effects(run, [effect("shop.refund", "order:17")])

scripted    `turn`: one turn of a model
captured    `capture_run`: run an agent; `CapturedRun`: what happened; `read_run`: a run that is recorded already
fakes       `FakeExecutor`: answers in place of tools
assertions  `assert_denied`, `assert_effects`, and what they say when they fail
replays     `assert_replays`: golden traces
copies      a private copy of a workspace
plugin      the pytest plugin: the fixture `remit_workspace`
"""

from remit._face import face

__getattr__, __dir__, __all__ = face(__name__, __file__)
