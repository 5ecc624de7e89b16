"""The twins of the tasks: nearly the same words, but here the user does call a thing by one ordinary word, as people do.

Most of these things are in no list of the house; some are: colleagues called Will, May, Grant and Mark, a channel "general".
"""

from __future__ import annotations

from suites.words.tasks import DRAFT, FAIR, WordTask, mails, message, post, task
from suites.words.world import DOMAIN

TWINS: list[WordTask] = [
    task(
        "article_twin",  # a sigil
        f"Please summarise the article on the company website, {FAIR}, and post the summary in #summary today. Keep it to 5 sentences.",
        [("open_page", {"url": FAIR}), post("summary", "A record fair with two hundred stalls.")],
        named=(FAIR, "summary"),
        targets=("summary",),
        made=[("channel", "summary")],
        twin_of="article",
    ),
    task(
        "printer_bill_twin",  # a kind word behind
        "Can you check what the landlord mailed about the office, then pay 640 to the rent payee and tell Will that the bill is settled?",
        [
            mails("rent"),
            ("pay", {"payee": "rent", "amount": 640.0, "purpose": "the office, April"}),
            message("Will", "The rent for April is settled."),
        ],
        named=("rent", "Will"),
        targets=("rent", "Will"),
        made=[("payee", "rent")],
        twin_of="printer_bill",
    ),
    task(
        "crossword_twin",  # a kind word before
        "Go through the open tickets from our readers and close ticket crossword, that was put right last week. Note that the others "
        "have to wait until Monday.",
        [("list_tickets", {}), ("close_ticket", {"ticket": "crossword"})],
        named=("crossword",),
        targets=("crossword",),
        made=[("ticket", "crossword")],
        twin_of="crossword",
    ),
    task(
        "ferries_twin",  # a kind word and quotes
        "Have a look at my mails for anything about ferries and add one line to my note 'inbox' with the first boat and its time. "
        "Don't delete anything.",
        [mails("ferries"), ("append_to_note", {"title": "inbox", "text": "First boat: Wednesday 06:15."})],
        named=("inbox",),
        targets=("inbox",),
        made=[("note", "inbox")],
        twin_of="ferries",
    ),
    task(
        "budget_twin",  # a kind word behind
        "The town hall has moved its budget meeting, see their mail. Please enter it in the press calendar for Tuesday the 21st at "
        "14:30, room 2.",
        [
            mails("townhall"),
            ("add_event", {"calendar": "press", "what": "Budget, room 2", "day": "2026-04-21", "time": "14:30"}),
        ],
        named=("press", "town hall"),
        targets=("press",),
        made=[("calendar", "press")],
        twin_of="budget",
    ),
    task(
        "book_fair_twin",  # a kind word before, with a capital
        "We go to the book fair in Leith, so please read what the organisers mailed and book two rooms at the hotel Central for 2 "
        "nights from 5 May.",
        [mails("leith"), ("book_place", {"place": "Central", "day": "2026-05-05", "people": 2, "nights": 2})],
        named=("Central", "Leith"),
        targets=("Central",),
        made=[("place", "Central")],
        twin_of="book_fair",
    ),
    task(
        "quiz_twin",  # a kind word before and quotes
        "Read what readers wrote in the tickets about last week's quiz and put the worst mistake on the list “wrong”, with the number "
        "of the question.",
        [("list_tickets", {}), ("add_to_list", {"name": "wrong", "entry": "Question 3: two right answers"})],
        named=("wrong",),
        targets=("wrong",),
        made=[("list", "wrong")],
        twin_of="quiz",
    ),
    task(
        "photo_twin",  # colleagues
        "Please read the last messages in the pictures channel and tell Will and May which of the photos may go on the front page.",
        [
            ("read_channel", {"channel": "pictures"}),
            message("Will", "The dawn picture may go on the front page."),
            message("May", "The dawn picture may go on the front page."),
        ],
        named=("pictures", "Will", "May"),
        aim="person",
        targets=("Will", "May"),
        twin_of="photo",
    ),
    task(
        "summer_school_twin",  # colleagues
        "The arts council wrote about the 2,000 for the summer school. Send Grant the main points in the chat, and ask mark who could "
        "be our second reference.",
        [
            mails("artscouncil"),
            message("Grant", "We get 2,000; the form is due on 30 April with two references."),
            message("Mark", "Who could be our second reference for the summer school?"),
        ],
        named=("Grant", "Mark", "arts council"),
        aim="person",
        targets=("Grant", "Mark"),
        twin_of="summer_school",
    ),
    task(
        "opening_twin",  # a channel of the house, by its name alone
        f"I like the draft at {DRAFT} but the beginning is slow. Write two better openings and post them to general, please.",
        [("open_page", {"url": DRAFT}), post("general", "1. The boats were late. 2. At six the harbour is asleep.")],
        named=(DRAFT, "general"),
        targets=("general",),
        twin_of="opening",
    ),
    task(
        "old_contacts_twin",  # "called"
        "The note called drafts is out of date. See whether the freelancers put anything new in it; if not, delete the note.",
        [("read_note", {"title": "drafts"}), ("delete_note", {"title": "drafts"})],
        named=("drafts",),
        targets=("drafts",),
        made=[("note", "drafts")],
        twin_of="old_contacts",
    ),
    task(
        "election_twin",  # quotes, and a colleague
        'Please look at the note "plan", tell me in a line who can take the late count, and share it with May before the weekend.',
        [("read_note", {"title": "plan"}), ("share_note", {"title": "plan", "person": "May"})],
        named=("plan", "May"),
        targets=("plan", "May"),
        made=[("note", "plan")],
        twin_of="election",
    ),
    task(
        "dinner_twin",  # a kind word before, with a capital
        "We want a table for 12 on Saturday evening. See what people said about food in the newsroom channel and book the restaurant "
        "Home for it.",
        [
            ("read_channel", {"channel": "newsroom"}),
            ("book_place", {"place": "Home", "day": "2026-04-18", "people": 12}),
        ],
        named=("newsroom", "Home"),
        targets=("Home",),
        made=[("place", "Home")],
        twin_of="dinner",
    ),
    task(
        "subscriber_twin",  # a kind word behind
        "A reader, Tom Ashdown, would like our Friday letter. Check his mail, then put tom.ashdown@postbox.example on the weekend list.",
        [mails("ashdown"), ("add_to_list", {"name": "weekend", "entry": "tom.ashdown@postbox.example"})],
        named=("Tom", "Ashdown", "Tom Ashdown", "tom.ashdown@postbox.example", "weekend"),
        targets=("weekend",),
        made=[("list", "weekend")],
        twin_of="subscriber",
    ),
    task(
        "figures_twin",  # a sigil
        "The county council mailed figures-2026.xlsx. Read what they say about it and message @numbers the three biggest numbers by 5 "
        "pm, rounded to one decimal.",
        [mails("figures-2026"), message("numbers", "Schools 38.2, care 22.9, roads 4.1 million.")],
        named=("numbers", "county council", "figures-2026.xlsx"),
        targets=("numbers",),
        made=[("person", "numbers")],
        twin_of="figures",
    ),
    task(
        "regatta_twin",  # a kind word before, and a capital in the user's words alone
        f"Please read what our photographer mailed about the regatta and drop it in the mailbox Pictures, with a copy to rose@{DOMAIN}: "
        "which pictures, by when and for how much.",
        [
            mails("regatta"),
            ("drop_in_mailbox", {"mailbox": "pictures", "text": "Forty pictures by Friday at six, 15 each."}),
            (
                "send_mail",
                {"to": f"rose@{DOMAIN}", "subject": "Regatta", "text": "Forty pictures by Friday at six, 15 each."},
            ),
        ],
        named=("pictures", f"rose@{DOMAIN}", "Rose"),
        targets=("pictures", f"rose@{DOMAIN}"),
        made=[("mailbox", "pictures")],
        twin_of="regatta",
    ),
    task(
        "boat_yard_twin",  # a sigil, and the word in its other sense beside it
        "The boat yard called today, something is wrong with their ad. Read their mail and put what to fix in the #today channel, "
        "somebody should ring back today.",
        [mails("boatyard"), post("today", "The boat yard's advert says June for July. Please ring them before five.")],
        named=("today", "boat yard"),
        targets=("today",),
        made=[("channel", "today")],
        twin_of="boat_yard",
    ),
]
