"""English words grouped by their role next to a name: words for kinds of things, and words that are not names."""

from __future__ import annotations

from typing import Final


def _of(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Words for things of one kind. A word in several rows fits all of their kinds.
FAMILIES: Final = tuple(
    _of(row)
    for row in (
        "person people user member colleague contact handle guest teammate customer client employee staff tenant contractor "
        "participant assignee reviewer owner author sender recipient pupil parent teacher patient",
        "channel chat room group topic conversation thread",
        "account payee recipient beneficiary biller vendor supplier payer wallet merchant",
        "mailbox inbox alias",
        "mail address",
        "email mail message",
        "ticket issue case incident bug request task",
        "note memo document doc page",
        "file document doc spreadsheet sheet presentation report attachment",
        "folder directory drive",
        "calendar diary schedule agenda",
        "event meeting appointment booking reservation lesson",
        "place venue hotel hostel inn restaurant cafe bar pub",
        "hotel hostel inn place",
        "restaurant cafe bar pub place",
        "company firm agency vendor supplier business",
        "list checklist newsletter",
        "club team group",
        "label tag category",
        "repository repo project",
        "project board workspace",
        "branch",
        "table database dataset store collection",
        "order purchase",
        "invoice bill",
        "transaction payment transfer",
        "lease contract",
        "unit apartment flat room",
        "product item article",
        "host server machine service",
        "url link site website page article",
    )
)
PEOPLE: Final = FAMILIES[0]
TAGGED: Final = _of("channel chat room group topic conversation thread label tag category")  # by "#"
ADDRESSED: Final = PEOPLE | _of("group team")  # by "@"
# Lower-case words inside of proper names.
LINKING: Final = _of("of the and de del der den des di da la le les von van für und et y zu zum zur")
# These are verbs too: "list everything", "no need to channel all of it", "note that".
VERBS_TOO: Final = _of(
    "address attachment author bar bill board book booking branch bug calendar case channel chat client contact contract document "
    "email file folder group handle house issue item label lease link list mail market message note order owner page parent "
    "payment place project purchase report request room schedule service sheet shop site staff stage store table tag task team "
    "ticket transfer"
)
# Words before a thing that is already known. "a" and "some" are left out, because no name follows them.
DETERMINERS: Final = _of("the my our your his her their its")
PLACED: Final = _of("at from in inside into on onto under via")
CALLED: Final = _of("called labeled labelled named titled entitled")
# Verbs that take a thing without an article: "close ticket crossword".
ACTS: Final = _of(
    "access add archive assign attach book cancel check clear close copy create delete drop edit empty export find fetch follow "
    "join leave lock make merge move mute open pay pin print query read rename remove reopen resolve restart restore review run see send "
    "share show stop subscribe unlock unsubscribe update use view watch"
)
# Words before quotes that mark the quotation as a text and not as a name.
CONTENT: Final = _of(
    "add answer answers append body comment content phrase post reply replies replying say saying says send sentence subject "
    "text title type word words write writes writing"
)
CALENDAR: Final = _of(
    "monday tuesday wednesday thursday friday saturday sunday mondays tuesdays wednesdays thursdays fridays saturdays sundays "
    "january february march april may june july august september october november december spring summer autumn winter "
    "easter christmas"
)
# Function words and adverbs: a noun phrase ends before them.
CONNECTING: Final = _of(
    "a about above across after again against ago all almost alone along already also although always am among an and another any "
    "anybody anymore anyone anything anyway apart are around as aside at away back be because been before behind being below "
    "beneath beside besides between beyond both but by can cannot could currently daily despite did do does doing done down due "
    "during each early either else elsewhere enough especially even ever every everybody everyone everything everywhere except "
    "far few finally first following for forever from further had has have having he hence her here hers herself him himself his "
    "hourly how however i if immediately in indeed inside instead into is it its itself just last late lately later least "
    "less like likewise little lots many may maybe me meanwhile might mine monthly more moreover most mostly much must my myself "
    "near nearby neither never nevertheless next no nobody none nor not nothing now nowhere of off often on once one only onto or "
    "other others otherwise ought our ours ourselves out outside over own part per perhaps please plus possibly previously "
    "probably quickly quite rather really recently regularly right same several shall she should since so some somebody somehow "
    "someone something sometimes somewhere soon still such than thanks that the their theirs them themselves then there "
    "therefore these they this those though through throughout thus till to today together tomorrow tonight too toward towards "
    "twice under unless unlike until up upon urgently us usually very via was we weekly well were what whatever when whenever "
    "where wherever whether which whichever while who whoever whole whom whose why will with within without would yearly yes yet "
    "yesterday you your yours yourself"
)
# Verbs that follow a noun: "the note says", "the ticket waits".
FOLLOWING: Final = _of(
    "accept accepts ask asks became become becomes begin begins bring brings call calls came change changes come comes concern "
    "concerns contain contains cost costs describe describes end ends exist exists expire expires explain explains fail fails "
    "find finds fit fits gave get gets give gives go goes got happen happens help helps hold holds include includes keep keeps "
    "knew know knows lack lacks lead leads let lets list lists look looks made make makes matter matters mean means mention "
    "mentions move moves need needs offer offers open opens pay pays point points provide provides put read reads refer refers "
    "remain remains require requires run runs said saw say says see seem seems sees send sends sent serve serves show shows sit "
    "sits sound sounds stand stands start starts state states stay stays stop stops suggest suggests take takes talk talks tell "
    "tells think thinks told took try tries turn turns use uses wait waits want wants went work works write writes wrote"
)
# Words that describe a thing and do not name it: "the last ticket", "the open tickets", "the hotel room".
DESCRIBING: Final = _of(
    "able absent active actual additional annual attached automatic available back bad basic best better big biggest bottom blank brief "
    "broken busy central cheap cheaper cheapest chief clean clear closed closest common complete correct corresponding current "
    "default detailed different direct double earlier earliest easy empty entire exact existing expensive extra fast favorite "
    "favourite final fine former free fresh front full funny future general good great half happy hard heavy helpful high higher "
    "highest hot huge important incoming initial interesting internal joint junior key known large largest lasting late later "
    "latest left legal likely linked local long longer longest low lower lowest main major matching medium minor missing modern "
    "monthly mutual national necessary new newer newest nice normal obvious official ok okay old older oldest ongoing online open "
    "ordinary original outgoing overall overdue particular past pending perfect permanent personal pinned poor popular possible "
    "present previous primary prior private proper public quick quiet ready real recent red regular related relevant remaining "
    "remote resulting rear right running safe second secondary secret senior separate serious short shorter shortest side similar simple "
    "single slow small smaller smallest smart special specific standard strange strict strong sudden suitable temporary third "
    "tiny top total true typical unique unread upcoming upper urgent useful usual valid various visible wide wonderful working "
    "worst wrong young"
)
# Parts of things: "the hotel room", "the account number".
PARTS: Final = _of(
    "access age amount balance bill bookings box budget comment comments content contents copy cost costs count data date day "
    "days deadline description desk detail details draft drafts edit editor end entries entry fee fees field history home hour hours "
    "id info information invitation key line lines location log login manager menu minutes month name names number numbers "
    "office opening option options password people policy post posts price prices queue rate rates rating record records reply "
    "replies result results review reviews rule rules search section settings size space statement status subject summary "
    "system tab text time times title titles total type update updates view week year"
)
