"""The words of the synthetic world: what its people care about and how its texts are phrased.

A phrase is one word or group of words from each slot of its kind, so every kind has hundreds of
phrasings. Topics and phrasings are divided once and for all between the training and the held-out
half of the world by a checksum of their own letters: nobody in training ever meets a held-out topic
or phrasing, and no list has to be kept in two parts.
"""

import itertools
import random
import zlib
from functools import cache
from typing import Final, Literal

Split = Literal["train", "heldout"]

HELDOUT_SHARE: Final = 5
"""One in so many topics and phrasings is held out."""

# Topics that are a dimension of AlignX, with its index: 1 there means that the user likes it.
DIRECTED_TOPICS: Final = {
    "science": 47, "psychology": 49, "cinema": 50, "entertainment": 51, "gaming": 52, "parenting": 53,
    "anime": 55, "sports": 56, "law": 57, "pets": 59, "travel": 60, "health": 61, "cars": 63, "education": 65,
    "finance": 69, "humor": 73, "music": 74, "reading": 75, "painting": 76, "dance": 77, "crafts": 78,
    "photography": 79, "culture": 80, "fitness": 81, "art": 82, "celebrities": 84, "outdoors": 85, "camping": 86,
    "weddings": 88, "fashion": 89,
}  # fmt: skip

OTHER_TOPICS: Final = tuple(  # as text: one word a line would fill the file
    """
    acorns airships almonds anchors antiques ants apples archery armor atlases avocados awnings badgers bagels ballads
    balloons bamboo banjos barges basil baskets beaches beacons beans bears beetles bells berries bicycles biscuits
    bonfires bonsai boots bottles bowling bracelets bread bricks bridges brooms bubbles butterflies buttons cabins
    cactus cakes calendars camels candles canoes canyons caravans carpets carrots castles caves cellos cereals chairs
    cherries chess chestnuts chimneys chocolate circuits circus clay cliffs clocks clouds clowns coasters cobblers
    coconuts coffee coins comets compasses copper corals cotton cows crabs cranes crickets crows crystals cups
    curtains cushions daisies deserts diamonds dinosaurs dolls dolphins domes donkeys dragons drums ducks dunes eagles
    eclipses eels eggs elephants elevators embroidery engines falcons farms feathers fences ferns ferries fiddles figs
    flags flutes foxes fossils fountains frogs galaxies gardens garlic geese gems geysers ghosts ginger giraffes
    glaciers glass gloves goats goldfish golf gongs grapes guitars hammocks harbors harps hats hawks hedges helmets
    herbs hiking hockey honey horses igloos inks insects islands ivory ivy jackets jam jazz jewels judo juggling
    jungles kayaks kettles keyboards kites knights knots koalas lace ladders lagoons lakes lamps lanterns lemons
    lentils lizards llamas locks looms lotus magnets mangoes maples maps marathons marbles masks meadows melons
    mermaids meteors mills mirrors monkeys moss moths mountains museums mushrooms mustard myths needles nests
    noodles novels nutmeg oases oats oceans olives onions opera orbits orchards orchids origami ostriches otters
    owls oysters paddles palaces pancakes pandas paper parades parrots pasta peaches pearls penguins pepper perfume
    pianos pickles pigeons pillows pirates planets plums poetry poker polo ponds potatoes pottery puddings pumpkins
    puppets puzzles pyramids quartz quilts rabbits radios rafts railways rainbows raisins ramps ravens reefs ribbons
    rice riddles rivers robots rockets rodeos roses rubies rugby rugs sailing salads salmon sandals satellites
    saunas scarves sculpture seals seaweed sharks sheep shells ships silk skating skiing snails snow soap soup spiders
    spoons squash squirrels stamps statues stools storms strawberries submarines subways sundials surfing swans swords
    tapestry tea telescopes temples tennis tents theater thunder tigers tiles toads tomatoes towers toys tractors
    trains treasure trees trumpets tulips tunnels turtles umbrellas unicorns valleys vanilla vases velvet villages
    vineyards violins volcanoes waffles walnuts walruses waltzes watches waterfalls wax whales wheat whistles wigs
    windmills wolves wool wrestling yachts yoga zebras zinc zithers
    """.split()  # noqa: SIM905
)

_ONSETS: Final = (
    "b",
    "br",
    "d",
    "dr",
    "f",
    "g",
    "gl",
    "h",
    "k",
    "l",
    "m",
    "n",
    "p",
    "pr",
    "r",
    "s",
    "st",
    "t",
    "v",
    "z",
)
_VOWELS: Final = ("a", "e", "i", "o", "u")
_CODAS: Final = ("", "n", "r", "l", "s", "m", "k")

PHRASES: Final[dict[str, tuple[tuple[str, ...], ...]]] = {
    # Questions, by domain. `{topic}` stands for what is asked about.
    "forum": (
        ("Explain", "Describe", "Discuss", "Present", "Introduce", "Outline", "Cover"),
        (" {topic}",),
        (".", " please.", " now.", " today.", " for me.", " once more."),
    ),
    "dialogue": (
        ("Tell me", "Talk", "Chat", "Speak", "Let me hear"),
        (" about {topic}",),
        (".", " please.", " again.", " tonight.", " for a while."),
    ),
    "news": (
        ("Show", "Find", "Bring", "Open"),
        (" me", " us"),
        (" the news", " some news", " fresh news"),
        (".", " now."),
    ),
    "shop": (
        ("What should I", "What could I", "What do I"),
        (" buy", " order", " get"),
        (" now?", " today?", " next?"),
    ),
    "films": (
        ("Pick", "Choose", "Suggest", "Find"),
        (" a film", " some film"),
        (" for me.", " for tonight.", " for us."),
    ),
    # Items, by domain.
    "news item": (
        ("Fresh", "Local", "Daily", "Latest", "Weekly", "Early"),
        (" story", " report", " update", " digest", " column", " note"),
        (" on {topic}", " about {topic}"),
    ),
    "shop item": (
        ("Compact", "Classic", "Sturdy", "Modern", "Large", "Light"),
        (" kit", " set", " box", " guide", " bundle", " case"),
        (" for {topic}",),
        ("", " lovers", " fans"),
    ),
    "films item": (
        ("A quiet", "A bold", "A long", "A short", "A strange", "A warm"),
        (" drama", " comedy", " thriller", " saga", " mystery", " musical"),
        (" about {topic}", " around {topic}"),
    ),
    # Ways to say something, by what a reader may prefer.
    "friendly": (
        ("Hey", "Oh", "Hi", "Wow", "Yay", "Haha"),
        (" friend", " pal", " buddy", " mate", " dear", " champ"),
        ("!", ", sure!", ", cool!"),
    ),
    "formal": (
        ("One", "We", "Scholars", "Experts", "Readers"),
        (" may", " must", " should", " shall"),
        (" note", " observe", " state", " remark"),
        (":", " formally:"),
    ),
    "plain": (
        ("{topic} is", "{topic} feels", "{topic} seems"),
        (" simply", " just", " basically", " really"),
        (" a nice", " an easy", " a simple", " a fun", " a handy"),
        (" thing", " idea", " trick", " habit", " way"),
    ),
    "technical": (
        ("{topic} exhibits", "{topic} implies", "{topic} entails", "{topic} requires"),
        (" nonlinear", " stochastic", " canonical", " parametric", " empirical", " structural"),
        (" equilibrium", " variance", " decomposition", " topology", " entropy", " calibration"),
    ),
    "more": (
        ("Many", "Some", "Most", "Several", "Few"),
        (" people", " towns", " books", " groups", " schools"),
        (" discuss", " share", " study", " record", " praise"),
        (" it", " this"),
        (" often", " daily", " widely", " today", " openly"),
    ),
    # What users write themselves.
    "love": (
        ("I love", "I enjoy", "I adore", "I really like"),
        (" {topic}",),
        (".", " a lot.", " so much.", " every day.", " these days."),
    ),
    "avoid": (
        ("I avoid", "I dislike", "I cannot stand", "I am tired of"),
        (" {topic}",),
        (".", " a lot.", " so much.", " by now.", " these days."),
    ),
    "wish": (
        ("I prefer", "I want", "I like", "Give me"),
        (" {style} answers", " {style} replies", " {style} texts"),
        (".", " please.", " most."),
    ),
}  # fmt: skip


def split_of(text: str) -> Split:
    """Which half of the world `text` belongs to."""
    return "heldout" if zlib.crc32(text.encode()) % HELDOUT_SHARE == 0 else "train"


@cache
def phrasings(kind: str, split: Split) -> tuple[str, ...]:
    """All phrasings of a kind in one half of the world."""
    return tuple(text for text in map("".join, itertools.product(*PHRASES[kind])) if split_of(text) == split)


def phrase(rng: random.Random, kind: str, split: Split, **fill: str) -> str:
    return rng.choice(phrasings(kind, split)).format(**fill)


@cache
def topics(split: Split) -> tuple[str, ...]:
    """The named topics of one half: those of AlignX first."""
    return tuple(topic for topic in (*DIRECTED_TOPICS, *OTHER_TOPICS) if split_of(topic) == split)


@cache
def directed_topics(split: Split) -> tuple[str, ...]:
    return tuple(topic for topic in DIRECTED_TOPICS if split_of(topic) == split)


def coin_word(rng: random.Random, split: Split) -> str:
    """A new word: a name of a band, a game or a place. There are so many that a model has to learn to copy
    words. Half are made of syllables, half of pieces of known words."""
    while True:
        if rng.random() < 0.5:
            count = rng.choice((2, 2, 3))
            word = "".join(rng.choice(_ONSETS) + rng.choice(_VOWELS) for _ in range(count)) + rng.choice(_CODAS)
        else:
            head, tail = rng.choice(topics(split)), rng.choice(topics(split))
            word = head[: rng.randint(1, 4)] + tail[-rng.randint(2, 5) :]
        if split_of(word) == split and word not in DIRECTED_TOPICS:
            return word
