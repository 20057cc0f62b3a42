"""The 90 fixed dimensions of preference, and a user's vectors on them in words.

AlignX annotates a choice with a vector: for each dimension 1 where the chosen text leans to the first
label, 0 where it leans to the second, 0.5 where neither. The vectors of a user's choices are averaged,
quantized to 1, 0 or neutral, and rendered as labels; a model that was tuned on such labels
(preference-bridged alignment, chat mode pba) reads them instead of the choices themselves.

Pure functions, for serving and for training pairs.
"""

from collections.abc import Iterable, Sequence
from math import fsum
from typing import Final, NamedTuple

NEUTRAL: Final = 0.5
HIGH: Final = 0.6
LOW: Final = 0.4
"""A mean at or beyond these names a label; between them a dimension says nothing."""


class Dimension(NamedTuple):
    """The label at 1 and the label at 0."""

    positive: str
    negative: str


_LABELS: Final = """\
Young | Older
Female | Male
High Neuroticism | Low Neuroticism
High Extraversion | Low Extraversion
High Openness | Low Openness
High Agreeableness | Low Agreeableness
High Conscientiousness | Low Conscientiousness
Likes a certain food | Dislikes a certain food
Likes a certain living environment | Dislikes a certain living environment
Likes sleep | Dislikes sleep
Aggressive investment | Conservative investment
Good at saving | Bad at saving
Concerned about physical safety | Not concerned about physical safety
Concerned about environmental safety | Not concerned about environmental safety
Prefers superficial interaction (casual, stress-free chat) | Prefers deep interaction (discussing interests, emotional topics, etc.)
Prefers direct communication to handle conflict | Prefers avoidance, mediation, compromise to handle conflict
Concise communication style | Detailed communication style
Strong need for a certain work environment | Indifferent to work environment needs
Strong need for recognition from others | Indifferent to recognition from others
Strong need for personal achievement | Indifferent to personal achievement
Likes a certain area of knowledge | Dislikes a certain area of knowledge
Likes a certain learning style | Dislikes a certain learning style
Likes a certain form of creative expression (e.g., art, writing, music) | Dislikes a certain form of creative expression (e.g., art, writing, music)
Strong need for Order (neatness, organization, avoiding chaos) | Indifferent to orderliness
Strong need for Retention (holding onto objects, unwilling to lose or change) | Indifferent to retention (unconcerned about keeping objects)
Strong need for Inviolacy (maintaining dignity and reputation) | Indifferent to inviolacy (unconcerned with dignity or reputation)
Strong need for Infavoidance (avoiding failure and embarrassment) | Indifferent to Infavoidance (unconcerned with failure or embarrassment)
Strong need for Counteraction (overcoming failure and obstacles) | Indifferent to Counteraction (unconcerned with failure)
Strong need for Seclusion (desire for isolation from others) | Indifferent to Seclusion (does not care about isolation)
Strong need for Dominance (controlling others through command or persuasion) | Indifferent to Dominance (does not care about control)
Strong need for Deference (following authority or rules) | Indifferent to Deference (does not care about authority)
Strong need for Autonomy (pursuing independence and self-reliance) | Indifferent to Autonomy (does not care about independence)
Strong need for Contrariance (pursuing uniqueness, opposing the norm) | Indifferent to Contrariance (does not seek uniqueness)
Strong need for Abasement (accepting blame, enjoying pain or misfortune) | Indifferent to Abasement (does not accept blame or enjoy misfortune)
Strong need for Aggression (controlling others through forceful means) | Indifferent to Aggression (does not engage in aggression)
Strong need for Affiliation (desiring close relationships) | Indifferent to Affiliation (does not care about close relationships)
Strong need for Rejection (isolating oneself from negatively evaluated people) | Indifferent to Rejection (does not care about social exclusion)
Strong need for Nurturance (caring for others, protecting them from danger) | Indifferent to Nurturance (does not care about nurturing others)
Strong need for Succorance (desiring help, love, and comfort from others) | Indifferent to Succorance (does not rely on others for comfort)
Strong need for Play (enjoying fun, relaxation, and laughter) | Indifferent to Play (does not prioritize fun or relaxation)
Concerned about harmlessness | Indifferent about harmlessness
Concerned about instruction-following | Indifferent about instruction-following
Concerned about honesty | Indifferent about honesty
Concerned about truthfulness | Indifferent about truthfulness
Concerned about helpfulness | Indifferent about helpfulness
Concerned about coherence | Indifferent about coherence
Concerned about complexity | Indifferent about complexity
Likes science | Dislikes science
Likes knowledge | Dislikes knowledge
Likes psychology | Dislikes psychology
Likes cinema | Dislikes cinema
Likes entertainment | Dislikes entertainment
Likes gaming | Dislikes gaming
Likes parenting | Dislikes parenting
Likes wild imagination | Dislikes wild imagination
Likes anime | Dislikes anime
Likes sports | Dislikes sports
Likes law | Dislikes law
Likes workplace | Dislikes workplace
Likes pets | Dislikes pets
Likes travel | Dislikes travel
Likes health | Dislikes health
Likes stories | Dislikes stories
Likes cars | Dislikes cars
Likes gourmet food | Dislikes gourmet food
Likes education | Dislikes education
Likes current events | Dislikes current events
Likes home decor | Dislikes home decor
Likes international | Dislikes international
Likes finance | Dislikes finance
Likes campus life | Dislikes campus life
Likes digital technology | Dislikes digital technology
Likes emotions | Dislikes emotions
Likes humor | Dislikes humor
Likes music | Dislikes music
Likes reading | Dislikes reading
Likes painting | Dislikes painting
Likes dance | Dislikes dance
Likes crafts | Dislikes crafts
Likes photography | Dislikes photography
Likes culture | Dislikes culture
Likes fitness | Dislikes fitness
Likes art | Dislikes art
Likes stationery and planners | Dislikes stationery and planners
Likes celebrities | Dislikes celebrities
Likes outdoors | Dislikes outdoors
Likes camping | Dislikes camping
Likes social sciences | Dislikes social sciences
Likes weddings | Dislikes weddings
Likes fashion | Dislikes fashion
"""  # noqa: E501  # a table: one dimension a line

DIMENSIONS: Final[tuple[Dimension, ...]] = tuple(Dimension(*line.split(" | ")) for line in _LABELS.splitlines())
"""In the data set's order: a dimension and its value in a vector have the same index."""


def describe_vectors(vectors: Iterable[Sequence[float]]) -> str:
    """What the vectors of one user's choices, each of 90 values in [0, 1], say in words, in the order of the
    dimensions: "Likes science, Dislikes law". Empty without vectors or when they cancel out."""
    rows = list(vectors)
    if not rows:
        return ""
    mean = [fsum(column) / len(rows) for column in zip(*rows, strict=True)]
    directions = zip(DIMENSIONS, _quantize(mean), strict=True)
    return ", ".join(
        dimension.positive if value > NEUTRAL else dimension.negative
        for dimension, value in directions
        if value != NEUTRAL
    )


def _quantize(mean: Sequence[float]) -> list[float]:
    """1 where the mean is at least `HIGH`, 0 where it is below `LOW`, else 0.5: AlignX's rule, whose float32 leaves two
    in five neutral. Where that leaves every dimension neutral, all that tie at the end which lies further from 0.5 are
    kept, those at the lower end where both lie as far; none where all means are 0.5."""
    values = [1.0 if value >= HIGH else 0.0 if value < LOW else NEUTRAL for value in mean]
    if all(value == NEUTRAL for value in values):
        above, below = _rounded(max(mean) - NEUTRAL), _rounded(NEUTRAL - min(mean))
        end = above if above > below else -below
        if end:
            values = [(end > 0) * 1.0 if _rounded(value - NEUTRAL) == end else NEUTRAL for value in mean]
    return values


def _rounded(distance: float) -> float:
    """So that 0.45 and 0.55 are as far from neutral as each other."""
    return round(distance, 9)
