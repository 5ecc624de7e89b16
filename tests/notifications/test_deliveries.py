"""Each channel gets each subject at least once, one delivery is recorded, and a receiver that fails is asked again later."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from notifications.receiving import CANARY, KEY, OTHER_KEY, channel, is_signed, noted, notifier, receiving, waiting

from remit.core import RunEnded
from remit.core.events import NANO, HoldLifted, HoldSet, NotificationBegun, NotificationFailed, NotificationSent
from remit.journal import WORKSPACE_RUN, Journal, StoredRecord
from remit.notifications import deliveries
from remit.workspace import Channel
from support.events import EPOCH, RUN, call, decided, granted, intended, started
from support.http_servers import Response
from support.journals import ON_FILE, query, script
from support.principals import principal

DEAD = "elsewhere:boot:1/412.7 00"  # a holder of another machine that is silent
ANN = principal("ann")


@pytest.fixture(autouse=True)
def signing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REMIT_SECRET_HOOK", KEY)


@pytest.fixture(autouse=True)
def first(request: pytest.FixtureRequest) -> None:
    """Let the clock of each journal stand at the beginning."""
    if "journal" in request.fixturenames:
        at(request.getfixturevalue("journal"), 0)


def at(journal: Journal, seconds: float) -> None:
    """Let the clock of the journal stand at that time."""
    object.__setattr__(journal, "clock", lambda: int(EPOCH + seconds * NANO))


def test_a_call_that_waits_is_one_signed_sentence_with_a_link_and_without_its_arguments(journal: Journal) -> None:
    waiting(journal)
    with receiving() as receiver:
        people = notifier(journal, channel(receiver))
        (made,) = asyncio.run(people.send_due())
        assert asyncio.run(people.send_due()) == []
        (request,), (body,) = receiver.requests, receiver.bodies
    assert made.outcome == "sent"
    assert is_signed(request)
    assert not is_signed(request, OTHER_KEY)
    assert body["type"] == "approval.waiting"
    link = f"https://remit.example.com/approvals/{RUN}/0.0"
    assert body["data"]["link"] == link
    assert body["data"]["text"].startswith(
        "A call of service.restart by agent triage waits for 1 × role:lead, until 20"
    )
    assert CANARY not in request.body.decode() + str(request.headers)
    assert [event.subject for event in noted(journal, NotificationSent)] == [made.subject]


def test_a_lost_run_an_effect_in_doubt_and_a_hold_are_sent_once(journal: Journal, place: Path | str) -> None:
    record = StoredRecord(journal, RUN)
    record.append(started())
    record.append(decided(0, 0, effect="once", touches=call(0, 0).touches))
    record.append(intended(0, 0))
    with journal.brief_lease(RUN):
        with receiving() as receiver:
            assert asyncio.run(notifier(journal, channel(receiver)).send_due()) == []  # a process drives it
        query(place, f"UPDATE head SET holder = '{DEAD}', beat = 0 WHERE run = '{RUN}'")
        journal.append_shared(WORKSPACE_RUN, HoldSet(number=0, scope="tool:files", reason=CANARY, by=ANN))
        journal.append_shared(WORKSPACE_RUN, HoldSet(number=1, scope="code:sha256:00", reason="bad", by=ANN))
        with receiving() as receiver:
            people = notifier(journal, channel(receiver))
            asyncio.run(people.send_due())
            bodies = {body["type"]: body["data"]["text"] for body in receiver.bodies}
            assert len(receiver.requests) == 3
            journal.append_shared(WORKSPACE_RUN, HoldLifted(number=2, scope="tool:files", by=ANN))
            assert asyncio.run(people.send_due()) == []
    assert set(bodies) == {"run.lost", "effect.in_doubt", "hold.set"}
    assert bodies["hold.set"] == "Tool files is on hold, set by user:ann. To see it: remit start tool:files"
    assert bodies["run.lost"].endswith(f"To see it: remit run --resume {RUN}")


def test_what_is_answered_or_older_than_three_days_is_not_sent(journal: Journal) -> None:
    waiting(journal)
    waiting(journal, "b" * 32)
    StoredRecord(journal, RUN).append(granted(0, 0))
    StoredRecord(journal, RUN).append(decided(0, 0, "allow", round=1, action="service.restart", effect="once"))
    with receiving() as receiver:
        at(journal, 3 * 86_400 + 1)
        assert asyncio.run(notifier(journal, channel(receiver)).send_due()) == []
        at(journal, 60)
        (made,) = asyncio.run(notifier(journal, channel(receiver)).send_due())
    assert made.subject == f"approval/{'b' * 32}/2"


@ON_FILE
@pytest.mark.parametrize(
    ("changes", "sent"),
    [
        ({}, True),
        ({"kinds": ("lost",)}, False),
        ({"agents": ("other",)}, False),
        ({"agents": ("triage", "other")}, True),
        ({"roles": ("role:dba",)}, False),
        ({"roles": ("role:dba", "role:lead")}, True),
    ],
)
def test_a_channel_gets_the_kinds_the_agents_and_the_roles_that_it_names(
    journal: Journal, changes: dict[str, object], sent: bool
) -> None:
    waiting(journal)
    with receiving() as receiver:
        asyncio.run(notifier(journal, channel(receiver, **changes)).send_due())
        assert len(receiver.requests) == sent


def test_a_receiver_that_asks_to_wait_gets_nothing_before_and_the_same_id_after(journal: Journal) -> None:
    """As Slack does it: 429 with Retry-After. The whole channel rests; another channel does not."""
    waiting(journal)
    waiting(journal, "b" * 32)
    busy = Response(status=429, headers=[("Retry-After", "120")])
    with receiving(busy) as slow, receiving() as quick:
        people = notifier(journal, channel(slow, "slow"), channel(quick, "quick"))
        made = asyncio.run(people.send_due())
        assert [(item.channel, item.outcome) for item in made] == [
            ("slow", "failed"),
            ("quick", "sent"),
            ("quick", "sent"),
        ]
        assert (made[0].reason, made[0].again_at) == ("the receiver answered 429", EPOCH + 120 * NANO)
        at(journal, 119)
        assert asyncio.run(people.send_due()) == []
        assert asyncio.run(notifier(journal, channel(slow, "slow")).send_due())[0].subject == f"approval/{'b' * 32}/2"
        at(journal, 121)
        assert [item.outcome for item in asyncio.run(people.send_due())] == ["sent"]
        assert slow.ids[0] == slow.ids[2] != slow.ids[1]


@ON_FILE
def test_a_channel_whose_receiver_is_away_rests_and_then_goes_on(journal: Journal) -> None:
    """Not each of a hundred messages waits for a receiver that does not answer."""
    waiting(journal)
    waiting(journal, "b" * 32)
    with receiving(503) as receiver:
        people = notifier(journal, channel(receiver))
        assert [item.outcome for item in asyncio.run(people.send_due())] == ["failed"]
        at(journal, 4)
        assert asyncio.run(people.send_due()) == []
        at(journal, 7)
        assert [item.outcome for item in asyncio.run(people.send_due())] == ["sent", "sent"]


@ON_FILE
def test_attempts_become_rarer_and_end(journal: Journal) -> None:
    waiting(journal)
    with receiving(*[503] * 50) as receiver:
        people, now, pauses = notifier(journal, channel(receiver)), 0.0, list[float]()
        while True:
            at(journal, now)
            (made,) = asyncio.run(people.send_due())
            if made.again_at is None:
                break
            pauses.append((made.again_at - EPOCH) / NANO - now)
            now += pauses[-1] + 1
        at(journal, now + 86_400)
        assert asyncio.run(people.send_due()) == []
        assert asyncio.run(notifier(journal, channel(receiver)).send_due()) == []  # nor does a new process
        assert len(receiver.requests) == deliveries.ATTEMPTS
        assert len(set(receiver.ids)) == 1
    assert made.outcome == "given up"
    assert pauses == sorted(pauses)
    assert [5 <= pauses[0] <= 6, 14_400 <= pauses[-1] <= 17_280] == [True, True]
    assert noted(journal, NotificationFailed)[-1].again_at is None
    assert noted(journal, NotificationSent) == []


@ON_FILE
def test_a_receiver_that_is_gone_is_not_asked_again_and_one_message_that_it_refuses_delays_no_other(
    journal: Journal,
) -> None:
    for run in (RUN, "b" * 32, "c" * 32):
        waiting(journal, run)
    with receiving(410, 400) as receiver:
        made = asyncio.run(notifier(journal, channel(receiver)).send_due())
    assert [item.outcome for item in made] == ["given up", "failed", "sent"]


@pytest.mark.parametrize("where", ["before", "after"])
def test_a_process_that_dies_around_the_sending_is_followed_by_another_with_the_same_id(
    journal: Journal, place: Path | str, where: str
) -> None:
    """At least once: the receiver drops the second one by its id. One delivery is recorded."""
    waiting(journal)
    with receiving() as receiver:
        dying = script(
            """
import asyncio, os
from notifications.receiving import notifier
from remit.notifications.webhook import WebhookSender
from remit.notifications.deliveries import ChannelDeliveries
from remit.workspace import Channel
journal.clock = lambda: int(sys.argv[3])
def die(*_):
    os.kill(os.getpid(), 9)
if sys.argv[2] == "before":
    WebhookSender.send = die
else:
    ChannelDeliveries._record = die
asyncio.run(notifier(journal, Channel(name="oncall", webhook=sys.argv[4], secret="hook")).send_due())
""",
            place,
            where,
            str(EPOCH),
            receiver.url,
        )
        dying.read()
        dying.kill()
        people = notifier(journal, channel(receiver))
        at(journal, 59)
        assert asyncio.run(people.send_due()) == []  # it may still be at work
        at(journal, 61)
        (made,) = asyncio.run(people.send_due())
        assert (made.outcome, made.number) == ("sent", 2)
        assert len(receiver.requests) == {"before": 1, "after": 2}[where]
        assert len(set(receiver.ids)) == 1
        at(journal, 200)
        assert asyncio.run(notifier(journal, channel(receiver)).send_due()) == []
    assert len(noted(journal, NotificationSent)) == 1


def test_of_two_services_one_sends_each_notification(journal: Journal, other: Journal) -> None:
    count = 20
    for number in range(count):
        waiting(journal, f"{number:032x}")
    at(other, 0)
    with receiving() as receiver:

        async def both() -> None:
            services = [notifier(opened, channel(receiver)) for opened in (journal, other)]
            for _ in range(3):
                await asyncio.gather(*(service.send_due() for service in services))

        asyncio.run(both())
        assert sorted(receiver.ids) == sorted(set(receiver.ids))
        assert len(receiver.ids) == count
    assert len(noted(journal, NotificationSent)) == len(noted(journal, NotificationBegun)) == count


@ON_FILE
def test_nothing_is_sent_that_cannot_be_recorded(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    waiting(journal)

    def full(*_: object, **__: object) -> None:
        raise RunEnded("unrecorded", "the disk is full", fix="free some space")

    monkeypatch.setattr(journal, "append_shared", full)
    with receiving() as receiver:
        with pytest.raises(RunEnded, match="the disk is full"):
            asyncio.run(notifier(journal, channel(receiver)).send_due())
        assert receiver.requests == []


@ON_FILE
def test_a_pass_has_a_bounded_queue_and_the_rest_waits_in_the_journal(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "QUEUE", 2)
    for index in range(5):
        waiting(journal, index=index)
    with receiving() as receiver:
        people = notifier(journal, channel(receiver))
        assert [len(asyncio.run(people.send_due())) for _ in range(4)] == [2, 2, 1, 0]


@ON_FILE
def test_a_watch_goes_on_after_the_journal_could_not_be_read(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remit.notifications.notifier.IDLE_S", 0.01)
    waiting(journal)
    failing = [RunEnded("unrecorded", "the journal is away", fix="wait")]
    real = journal.read

    def read(*args: Any, **named: Any) -> Any:
        if failing:
            raise failing.pop()
        return real(*args, **named)

    monkeypatch.setattr(journal, "read", read)
    reported: list[object] = []

    async def watched(url: Channel) -> None:
        async with asyncio.timeout(20):
            watching = asyncio.create_task(notifier(journal, url).watch(reported.append))
            while len(reported) < 2:
                await asyncio.sleep(0.01)
            watching.cancel()

    with receiving() as receiver:
        asyncio.run(watched(channel(receiver)))
    assert [type(item) for item in reported] == [RunEnded, deliveries.Delivery]
