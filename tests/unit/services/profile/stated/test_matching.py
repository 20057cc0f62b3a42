"""What the user said, and which items match it."""

import pytest

from alignx.schemas.interactions import DialogueInteraction, Message, PostInteraction, StatementInteraction
from alignx.schemas.items import ItemFields
from services.profile.fold import apply_own_text
from services.profile.item_features import extract_features
from services.profile.stated.matching import MAX_STATED, match
from services.profile.statistics import EMPTY
from services.profile.word_vectors import embed_items
from tests.unit.services.profile.histories import folded, lead, stated


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
        # a kind covers what belongs to it
        ("I'm vegan.", "Chickpea stew", "Grilled lamb chops"),
        ("I'm vegan.", "Vegan leather boots", "Leather boots"),
        ("I am allergic to nuts.", "Seed crackers, nut-free", "Almond crackers"),
        ("I don't eat seafood.", "Mushroom risotto", "Prawns with garlic"),
        ("No wool, please.", "Cotton jumper", "Merino jumper"),
        ("I avoid alcohol.", "Alcohol-free beer", "Craft beer"),
        ("Ich esse kein Fleisch.", "Linsensuppe", "Rindersteak vom Grill"),
        ("I love seafood.", "Oysters and clams", "Roast beef"),
        # items of other words match by meaning
        ("I love horror films.", "A haunted mansion and its ghosts", "Two lovers on a beach"),
        ("I hate running.", "Swimming lessons", "Marathon training plan"),
        ("I never miss opera.", "Verdi's arias with orchestra", "Motor racing season"),
    ],
)
def test_likes_and_dislikes_are_read_from_a_sentence(said: str, liked: str, disliked: str):
    assert lead(stated(said), "", liked, disliked) > 0
    assert lead(stated(said), "", ItemFields(title=liked), ItemFields(title=disliked)) > 0


@pytest.mark.parametrize(
    ("said", "liked", "disliked"),
    [
        ("I'll go with the nature hike, thanks.", "a hike", "a concert"),
        ("The nature hike sounds perfect.", "a hike", "a concert"),
        ("The options with crowds don't really appeal to me.", "a quiet place", "crowds"),
        ("I usually prefer trains. What time is it?", "a train", "a plane"),
        ("I tend to avoid floral prints when I shop.", "a plain dress", "a floral dress"),
        ("I love to explore not just the opera itself but its history", "a night at the opera", "a night at home"),
    ],
)
def test_choices_and_habits_are_read_from_writing(said: str, liked: str, disliked: str):
    assert lead(folded([PostInteraction(text=said)]), "", liked, disliked) > 0


def test_what_is_told_of_others_is_no_liking():
    said = PostInteraction(text="The committee wants shorter meetings. She hates opera.")
    assert lead(folded([said]), "", "a night at the opera", "a night at the theatre") >= 0


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


def test_a_remark_on_a_liking_is_no_part_of_it():
    said = "I didn't enjoy cooking, which is odd as I had looked forward to it"
    (clause,) = folded([PostInteraction(text=said)]).clauses
    assert (clause.target, clause.polarity < 0) == ("cooking", True)


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
        return {clause.quote.rstrip("."): clause.is_struck for clause in stated(*said).clauses if clause.target}

    assert struck("I love golf.", "I hate golf.") == {"I love golf": True, "I hate golf": False}
    assert struck("I love horror films.", "I hate horror.") == {"I love horror films": True, "I hate horror": False}
    assert struck("I love fish.", "I hate raw fish.") == {"I love fish": False, "I hate raw fish": False}
    assert struck("I love golf.", "I love tennis.") == {"I love golf": False, "I love tennis": False}
    assert struck("I love golf.", "I love golf.") == {"I love golf": False}


def test_what_is_struck_or_past_moves_nothing_and_stays():
    profile = stated("I love sushi.", "I used to love sushi.")
    assert match(profile, *offer("sushi", "pasta")).totals == [0.0, 0.0]
    assert all(clause.is_struck for clause in profile.clauses)
    assert len(profile.clauses) == 2


def test_an_option_that_is_taken_is_read_in_the_list_before_it():
    listed = "Here are some:\n1. A hike along the lake.\n2. A night of jazz in a cellar.\n3. Shopping."
    turns = (("user", "What shall I do?"), ("assistant", listed), ("user", "I think I'll go with option 2, thanks."))
    profile = folded([DialogueInteraction(messages=tuple(Message(role=role, content=text) for role, text in turns))])
    assert lead(profile, "", ItemFields(title="Jazz records"), ItemFields(title="Hiking boots")) > 0


@pytest.mark.parametrize(
    ("said", "query", "fits", "other", "least"),
    [
        ("I use a wheelchair.", "Which flat shall I take?", "A flat with wheelchair access", "A flat upstairs", 0.5),
        ("I play the cello.", "Which sheet music suits me?", "Sonatas for cello", "Sonatas for trumpet", 0.5),
        ("I adore horror films.", "Which film shall we watch?", "A horror film", "A comedy", 0.0),
        ("I love whales.", "Which poster shall I hang up, of whales or of sharks?", "Whales", "Sharks", 0.0),
        # what is avoided is heeded whatever is asked
        ("I avoid expensive hotels.", "Where shall I stay in Vienna?", "A hostel", "An expensive hotel", 0.5),
    ],
)
def test_what_bears_on_a_request_speaks_for_what_suits_it(said: str, query: str, fits: str, other: str, least: float):
    assert lead(stated(said), query, fits, other) > least


@pytest.mark.parametrize(
    ("said", "query", "item", "other"),
    [
        # one item alone drags it in
        (
            "I adore horror films.",
            "Suggest a title for the accounting spreadsheet.",
            "Horror Budget",
            "Quarterly Budget",
        ),
        ("I love jazz.", "Which place shall we visit on Friday?", "The jazz cellar", "The wine cellar"),
        # a fact is asked for
        ("I love whales.", "Are whales heavier than sharks?", "Whales", "Sharks"),
    ],
)
def test_a_taste_that_does_not_bear_on_a_request_moves_nothing(said: str, query: str, item: str, other: str):
    assert lead(stated(said), query, item, other) == 0


def test_an_opinion_on_the_world_is_no_fact_about_the_person():
    profile = stated("I believe that goldfish forget everything within seconds.")
    assert lead(profile, "How long do goldfish remember?", "Goldfish forget within seconds", "For months") <= 0


def test_what_a_summary_quotes_is_gated_less_than_a_statement():
    profile = apply_own_text(EMPTY, "I love jazz.")
    assert lead(profile, "Which place shall we visit on Friday?", "The jazz cellar", "The wine cellar") > 0


def test_much_that_is_said_in_passing_counts_less_each():
    def lead_of_golf(*others: str) -> float:
        said = folded([PostInteraction(text=text) for text in ("I love golf.", *others)])
        golf, tram = match(said, *offer("golf", "tram")).totals
        return golf - tram

    assert lead_of_golf("I love chess.", "I love soup.", "I love roses.") < lead_of_golf()


def test_contributions_are_bounded():
    profile = stated(*[f"I love golf and {name}." for name in ("opera", "jazz", "tea", "art")] * 9)
    golf, _ = match(profile, *offer("golf opera jazz tea art", "a tram")).totals
    assert 0 < golf <= MAX_STATED
