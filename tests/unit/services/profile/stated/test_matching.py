"""What the user said, and which items match it."""

import pytest

from alignx.schemas.interactions import DialogueInteraction, Message, PostInteraction, StatementInteraction
from alignx.schemas.items import ItemFields
from services.profile.fold import apply_own_text
from services.profile.item_features import extract_features
from services.profile.scoring import scores
from services.profile.stated.matching import MAX_STATED, match
from services.profile.statistics import EMPTY
from services.profile.word_vectors import embed_items
from tests.unit.services.profile.histories import folded


@pytest.mark.parametrize(
    ("said", "liked", "disliked"),
    [
        ("I love jazz but hate opera", "jazz night", "opera night"),
        ("I prefer tea over coffee", "green tea", "black coffee"),
        ("I don't like golf", "tennis", "golf"),
        ("I can't stand crowds", "quiet beach", "crowds"),
        ("I want less politics", "sport", "politics"),
        ("Dogs are my favourite", "a dog book", "a car book"),
        ("I dislike group projects and prefer reading alone", "a reading list", "a group project"),
        ("I prefer to stay away from fantasy worlds", "space", "fantasy"),
        ("I prefer not to attend crowded events", "a quiet evening", "a crowded expo"),
        ("I avoid cats because I'm allergic to them", "a dog", "a pair of cats"),
        ("I don't wear wool as I'm a vegan", "a vegan coat", "a wool coat"),
        ("I have a phobia of birds", "a hamster", "a singing bird"),
        ("I do not like jogging", "swimming laps", "a daily jog"),
        ("I am allergic to sugar", "a sugar-free drink", "a drink with sugar"),
        ("I love sugar", "a drink with sugar", "a sugar-free drink"),
        ("I only want story-based games", "a story", "a puzzle"),
        ("I dislike drinks like cola", "tea", "cola"),
    ],
)
def test_likes_and_dislikes_are_read_from_a_sentence(said: str, liked: str, disliked: str):
    here, there = scores(folded([StatementInteraction(text=said)]), "", (liked, disliked))
    assert here > there


@pytest.mark.parametrize(
    ("said", "liked", "disliked"),
    [
        ("I'll go with the nature hike, thanks.", "a hike", "a concert"),
        ("The nature hike sounds perfect.", "a hike", "a concert"),
        ("The options with crowds don't really appeal to me.", "a quiet place", "crowds"),
        ("I usually prefer trains. What time is it?", "a train", "a plane"),
        ("I tend to avoid floral prints when I shop.", "a plain dress", "a floral dress"),
    ],
)
def test_choices_and_habits_are_read_from_writing(said: str, liked: str, disliked: str):
    here, there = scores(folded([PostInteraction(text=said)]), "", (liked, disliked))
    assert here > there


def test_what_is_told_of_others_is_no_liking():
    said = PostInteraction(text="The committee wants shorter meetings. She hates opera.")
    here, there = scores(folded([said]), "", ("a night at the opera", "a night at the theatre"))
    assert here >= there


@pytest.mark.parametrize(
    "said",
    [
        "I can't wait for the opera next week",
        "I didn't know that the opera was built so long ago",
        "I need to go past the opera on my way home",
    ],
)
def test_what_is_told_in_passing_is_no_taste(said: str):
    assert folded([PostInteraction(text=said)]).clauses == ()


def test_not_only_is_no_dislike():
    said = PostInteraction(text="I love to explore not just the opera itself but its history")
    here, there = scores(folded([said]), "", ("a night at the opera", "a night at home"))
    assert here > there


def test_a_remark_on_a_liking_is_no_part_of_it():
    said = "I didn't enjoy cooking, which is odd as I had looked forward to it"
    (clause,) = folded([PostInteraction(text=said)]).clauses
    assert (clause.target, clause.polarity < 0) == ("cooking", True)


@pytest.mark.parametrize(
    ("said", "fits", "does_not"),
    [
        ("I'm vegan.", "Chickpea stew", "Grilled lamb chops"),
        ("I'm vegan.", "Vegan leather boots", "Leather boots"),
        ("I am allergic to nuts.", "Seed crackers, nut-free", "Almond crackers"),
        ("I don't eat seafood.", "Mushroom risotto", "Prawns with garlic"),
        ("No wool, please.", "Cotton jumper", "Merino jumper"),
        ("I avoid alcohol.", "Alcohol-free beer", "Craft beer"),
        ("Ich esse kein Fleisch.", "Linsensuppe", "Rindersteak vom Grill"),
        ("I love seafood.", "Oysters and clams", "Roast beef"),
    ],
)
def test_a_kind_covers_what_belongs_to_it(said: str, fits: str, does_not: str):
    here, there = scores(
        folded([StatementInteraction(text=said)]), "", (ItemFields(title=fits), ItemFields(title=does_not))
    )
    assert here > there


@pytest.mark.parametrize(
    ("said", "fits", "does_not"),
    [
        ("I love horror films.", "A haunted mansion and its ghosts", "Two lovers on a beach"),
        ("I hate running.", "Swimming lessons", "Marathon training plan"),
        ("I never miss opera.", "Verdi's arias with orchestra", "Motor racing season"),
    ],
)
def test_items_of_other_words_match_by_meaning(said: str, fits: str, does_not: str):
    here, there = scores(
        folded([StatementInteraction(text=said)]), "", (ItemFields(title=fits), ItemFields(title=does_not))
    )
    assert here > there


@pytest.mark.parametrize(
    "said", ["Do you sell golf clubs?", "My brother loves golf.", "The golf course lies behind the station."]
)
def test_what_claims_nothing_moves_nothing(said: str):
    message = Message(role="user", content=said)
    events = [StatementInteraction(text=said), PostInteraction(text=said), DialogueInteraction(messages=(message,))]
    for event in events:
        assert match(folded([event]), *offer("golf bag", "tennis bag")).totals == [0.0, 0.0]


def offer(*titles: str):
    views = [extract_features(ItemFields(title=title)) for title in titles]
    return views, embed_items(views)


def test_a_newer_clause_strikes_what_it_takes_back():
    def struck(*said: str) -> dict[str, bool]:
        clauses = folded([StatementInteraction(text=text) for text in said]).clauses
        return {clause.quote.rstrip("."): clause.is_struck for clause in clauses if clause.target}

    assert struck("I love golf.", "I hate golf.") == {"I love golf": True, "I hate golf": False}
    assert struck("I love horror films.", "I hate horror.") == {"I love horror films": True, "I hate horror": False}
    assert struck("I love fish.", "I hate raw fish.") == {"I love fish": False, "I hate raw fish": False}
    assert struck("I love golf.", "I love tennis.") == {"I love golf": False, "I love tennis": False}
    assert struck("I love golf.", "I love golf.") == {"I love golf": False}


def test_what_is_struck_or_past_moves_nothing_and_stays():
    profile = folded([StatementInteraction(text="I love sushi."), StatementInteraction(text="I used to love sushi.")])
    assert match(profile, *offer("sushi", "pasta")).totals == [0.0, 0.0]
    assert all(clause.is_struck for clause in profile.clauses)
    assert len(profile.clauses) == 2


def test_an_option_that_is_taken_is_read_in_the_list_before_it():
    listed = "Here are some:\n1. A hike along the lake.\n2. A night of jazz in a cellar.\n3. Shopping."
    turns = (("user", "What shall I do?"), ("assistant", listed), ("user", "I think I'll go with option 2, thanks."))
    profile = folded([DialogueInteraction(messages=tuple(Message(role=role, content=text) for role, text in turns))])
    here, there = scores(profile, "", (ItemFields(title="Jazz records"), ItemFields(title="Hiking boots")))
    assert here > there


@pytest.mark.parametrize(
    ("said", "query", "fits", "other"),
    [
        (
            "I use a wheelchair.",
            "Which flat shall I look at first?",
            "A flat with wheelchair access",
            "A flat upstairs",
        ),
        ("I play the cello.", "Which sheet music suits me?", "Sonatas for cello", "Sonatas for trumpet"),
    ],
)
def test_a_fact_speaks_for_what_suits_it(said: str, query: str, fits: str, other: str):
    here, there = scores(folded([StatementInteraction(text=said)]), query, (fits, other))
    assert here > there + 0.5


def test_an_opinion_on_the_world_is_no_fact_about_the_person():
    profile = folded([StatementInteraction(text="I believe that goldfish forget everything within seconds.")])
    here, there = scores(profile, "How long do goldfish remember?", ("Goldfish forget within seconds", "For months"))
    assert here <= there


def test_a_liking_that_one_item_alone_drags_in_moves_nothing():
    profile = folded([StatementInteraction(text="I adore horror films.")])
    items = ("Horror Budget", "Quarterly Budget")
    here, there = scores(profile, "Suggest a title for the accounting spreadsheet.", items)
    assert here == there
    here, there = scores(profile, "Which film shall we watch?", ("A horror film", "A comedy"))
    assert here > there


def test_what_a_summary_quotes_is_gated_less_than_a_statement():
    said, query = "I love jazz.", "Which place shall we visit on Friday?"
    items = ("The jazz cellar", "The wine cellar")
    here, there = scores(folded([StatementInteraction(text=said)]), query, items)
    assert here == there
    here, there = scores(apply_own_text(EMPTY, said), query, items)
    assert here > there


def test_a_taste_has_no_say_where_a_fact_is_asked_for():
    profile, items = folded([StatementInteraction(text="I love whales.")]), ("Whales", "Sharks")
    here, there = scores(profile, "Are whales heavier than sharks?", items)
    assert here == there
    here, there = scores(profile, "Which poster shall I hang up, of whales or of sharks?", items)
    assert here > there


def test_what_is_avoided_is_heeded_whatever_is_asked():
    profile = folded([StatementInteraction(text="I avoid expensive hotels.")])
    here, there = scores(profile, "Where shall I stay in Vienna?", ("A hostel by the canal", "An expensive hotel"))
    assert here > there + 0.5


def test_much_that_is_said_in_passing_counts_less_each():
    def lead(*others: str) -> float:
        said = folded([PostInteraction(text=text) for text in ("I love golf.", *others)])
        golf, tram = match(said, *offer("golf", "tram")).totals
        return golf - tram

    assert lead("I love chess.", "I love soup.", "I love roses.") < lead()


def test_contributions_are_bounded():
    profile = folded(
        [StatementInteraction(text=f"I love golf and {name}.") for name in ("opera", "jazz", "tea", "art")] * 9
    )
    golf, _ = match(profile, *offer("golf opera jazz tea art", "a tram")).totals
    assert 0 < golf <= MAX_STATED
