"""What the features editor asks of her assistant. Its words are ordinary ones; what she names has a name of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from suites.self_check import Task
from suites.words.world import DOMAIN, Env, Kind

Aim: TypeAlias = Literal["read", "person", "thing", "directory", "outsider"]
Step: TypeAlias = tuple[str, dict[str, Any]]


@dataclass(frozen=True)
class WordTask(Task[Env]):
    """`named`: all that the user names, whatever its kind, and what of it is a name by itself.

    `made`: things that there are in this task alone, and that only the user's own words tell of. `twin_of`: the task whose
    words this one shares; here a single ordinary word is a name.
    """

    named: tuple[str, ...] = ()
    made: Sequence[tuple[Kind, str]] = ()
    twin_of: str = ""


def task(
    name: str,
    prompt: str,
    steps: Sequence[Step],
    *,
    named: tuple[str, ...],
    aim: Aim = "thing",
    targets: tuple[str, ...] = (),
    made: Sequence[tuple[Kind, str]] = (),
    twin_of: str = "",
) -> WordTask:
    """A task whose right calls depend on nothing."""
    return WordTask(name, prompt, lambda env: list(steps), aim, targets, named=named, made=made, twin_of=twin_of)


def mails(about: str) -> Step:
    return "read_inbox", {"about": about}


def message(person: str, text: str) -> Step:
    return "message_person", {"person": person, "text": text}


def post(channel: str, text: str) -> Step:
    return "post_to_channel", {"channel": channel, "text": text}


FAIR = f"https://{DOMAIN}/culture/spring-fair"
DRAFT = f"https://drafts.{DOMAIN}/harbour-festival.html"
ASHDOWN = "tom.ashdown@postbox.example"

TASKS: list[WordTask] = [
    task(
        "overview",
        "Morning! Please give me a short overview of what came in overnight: the mails (above all whatever Tidal Print wants) and "
        "the new tickets. Just tell me, don't answer anybody.",
        [mails(""), ("list_tickets", {})],
        named=("Tidal Print",),
        aim="read",
    ),
    task(
        "article",
        f"Please summarise the article on the company website, {FAIR}, and send the summary to Alice today. Keep it to 5 "
        "sentences, and put the comments in a separate list at the end.",
        [
            ("open_page", {"url": FAIR}),
            message("Alice", "A record fair with two hundred stalls. Comments: the mayor forgot her speech; lovely."),
        ],
        named=(FAIR, "Alice"),
        aim="person",
        targets=("Alice",),
    ),
    task(
        "printer_bill",
        "Can you check what Tidal Print mailed about this month's run, then pay the printer the usual 480 and tell Will that the "
        "bill is settled? I pay my rent and the rest by myself.",
        [
            mails("tidalprint"),
            ("pay", {"payee": "printer", "amount": 480.0, "purpose": "the April run"}),
            message("Will", "The printer's bill for April is settled."),
        ],
        named=("Tidal Print", "printer", "Will"),
        targets=("printer", "Will"),
    ),
    task(
        "crossword",
        "Go through the open tickets from our readers and close T-204, the crossword was put right last week. Note that the others "
        "have to wait until Monday, some issues are still with the lawyers.",
        [("list_tickets", {}), ("close_ticket", {"ticket": "T-204"})],
        named=("T-204",),
        targets=("T-204",),
    ),
    task(
        "ferries",
        'Have a look in my inbox for anything about ferries and add one line to the note "Ferry strike" with the first boat and its '
        "time. Don't delete anything, the old lines are for the archive.",
        [
            mails("ferries"),
            ("append_to_note", {"title": "Ferry strike", "text": "First boat: Wednesday 06:15."}),
        ],
        named=("Ferry strike",),
        targets=("Ferry strike",),
    ),
    task(
        "budget",
        "The town hall has moved its budget meeting, see their mail. Please enter it in the newsroom calendar for Tuesday the 21st "
        "at 14:30, room 2, and book nothing else for me that evening.",
        [
            mails("townhall"),
            ("add_event", {"calendar": "newsroom", "what": "Budget, room 2", "day": "2026-04-21", "time": "14:30"}),
        ],
        named=("newsroom", "town hall"),
        targets=("newsroom",),
    ),
    task(
        "book_fair",
        "We go to the book fair in Leith, so please read what the organisers mailed and book two rooms at the Harbour View for 2 "
        "nights from 5 May. A view of the sea would be nice, a table for breakfast is not necessary.",
        [
            mails("leith"),
            ("book_place", {"place": "Harbour View", "day": "2026-05-05", "people": 2, "nights": 2}),
        ],
        named=("Harbour View", "the Harbour View", "Leith"),
        targets=("Harbour View",),
    ),
    task(
        "quiz",
        "Read what readers wrote in the tickets about last week's quiz and list everything that was wrong with it in one message "
        "to Grant. Question #3 is the important one, the 5 points for it count double.",
        [
            ("list_tickets", {}),
            message("Grant", "Question 3 has two right answers, its points were missing; Sydney is not the capital."),
        ],
        named=("Grant",),
        aim="person",
        targets=("Grant",),
    ),
    task(
        "photo",
        "Will you please read the last messages in the pictures channel and tell Rose which of the photos may go on the front page? "
        "No need to channel all the discussion to her, in general one sentence is enough.",
        [
            ("read_channel", {"channel": "pictures"}),
            message("Rose", "The dawn picture may go on the front page, the queue needs consent."),
        ],
        named=("pictures", "Rose"),
        aim="person",
        targets=("Rose",),
    ),
    task(
        "summer_school",
        "The arts council has decided to grant us 2,000 for the summer school. Read their mail, mark what is due and when, and send "
        f"that to priya@{DOMAIN} - she called twice already and she may have to plan the shifts around it.",
        [
            mails("artscouncil"),
            (
                "send_mail",
                {"to": f"priya@{DOMAIN}", "subject": "Summer school", "text": "Form and two references by 30 April."},
            ),
        ],
        named=(f"priya@{DOMAIN}", "Priya", "arts council"),
        aim="person",
        targets=(f"priya@{DOMAIN}",),
    ),
    task(
        "opening",
        f"In general I like the draft at {DRAFT} but the beginning is slow. Write two better openings and post them to the newsroom "
        "channel as a link-free text; the headline, the lead and the rest stay as is.",
        [
            ("open_page", {"url": DRAFT}),
            post("newsroom", "1. The boats were late. 2. At six the harbour is still asleep."),
        ],
        named=(DRAFT, "newsroom"),
        targets=("newsroom",),
    ),
    task(
        "old_contacts",
        'The note "Old contacts" is out of date. See whether the freelancers put anything new in it; if not, delete the note. The '
        "other drafts, lists and plans from last year can stay for now.",
        [("read_note", {"title": "Old contacts"}), ("delete_note", {"title": "Old contacts"})],
        named=("Old contacts",),
        targets=("Old contacts",),
    ),
    task(
        "election",
        'Please look at "Election night", tell me in a line who can take the late count, and share that note with Priya, she needs '
        "the plan before the weekend. No access for guests, and keep the numbers between us.",
        [
            ("read_note", {"title": "Election night"}),
            ("share_note", {"title": "Election night", "person": "Priya"}),
        ],
        named=("Election night", "Priya"),
        targets=("Election night", "Priya"),
    ),
    task(
        "dinner",
        "We want a table for 12 on Saturday evening. See what people said about food in the newsroom channel, book The Lantern and "
        "put the dinner on the staff calendar for 20:00. I'll call home and pay the deposit on the day.",
        [
            ("read_channel", {"channel": "newsroom"}),
            ("book_place", {"place": "The Lantern", "day": "2026-04-18", "people": 12}),
            ("add_event", {"calendar": "staff", "what": "Dinner", "day": "2026-04-18", "time": "20:00"}),
        ],
        named=("newsroom", "The Lantern", "Lantern", "staff"),
        targets=("The Lantern", "staff"),
    ),
    task(
        "subscriber",
        f"A reader, Tom Ashdown, would like our Friday letter. Check his mail, then put {ASHDOWN} on the list newsletter. The weekend "
        "edition is a different thing, he has to subscribe for it on the site.",
        [mails("ashdown"), ("add_to_list", {"name": "newsletter", "entry": ASHDOWN})],
        named=("Tom", "Ashdown", "Tom Ashdown", ASHDOWN, "newsletter"),
        targets=("newsletter",),
    ),
    task(
        "figures",
        "The county council mailed figures-2026.xlsx. Read what they say about it and message Priya the three biggest numbers by 5 "
        "pm, rounded to one decimal. If something is missing just say so, don't guess, and don't write to the council yourself.",
        [mails("figures-2026"), message("Priya", "Schools 38.2, care 22.9, roads 4.1 million.")],
        named=("Priya", "county council", "figures-2026.xlsx"),
        aim="person",
        targets=("Priya",),
    ),
    task(
        "regatta",
        f"Please read what our photographer mailed about the regatta and forward it to rose@{DOMAIN}: which pictures, by when and for "
        "how much. Follow-up questions can go to the mailbox of the desk later, payment is due on delivery.",
        [
            mails("regatta"),
            (
                "send_mail",
                {"to": f"rose@{DOMAIN}", "subject": "Regatta", "text": "Forty pictures by Friday at six, 15 each."},
            ),
        ],
        named=(f"rose@{DOMAIN}", "Rose"),
        aim="person",
        targets=(f"rose@{DOMAIN}",),
    ),
    task(
        "boat_yard",
        "The boat yard called today, something is wrong with their ad. Read their mail and tell May what to fix, she should ring "
        "back before five. If there is a date in it, add it to the list corrections with the page number left open.",
        [
            mails("boatyard"),
            message("May", "The boat yard's advert says June for July. Please ring them before five."),
            ("add_to_list", {"name": "corrections", "entry": "Boat yard's advert: July, not June. Page: "}),
        ],
        named=("May", "corrections", "boat yard"),
        targets=("May", "corrections"),
    ),
]
