"""What the world teaches passes the checks that a reply of the engine meets when it is served."""

import random

from services.errors import UnusableReply
from services.preference.updates.support import check_supported
from services.profile.fold import fold
from services.profile.statistics import EMPTY
from services.prompts.build import plain_history
from services.prompts.replies.parse_summary import parse_summary
from services.prompts.replies.summary_checks import Evidence
from training.corpus import teacher
from training.corpus.lexicon import Pen
from training.corpus.world_rows import World

USERS = 80
WORLD = World(noise=0.3, drift=0.2, foreign=0.1)


def is_served(number: int) -> bool:
    pen = Pen(random.Random(f"target {number}"), "heldout")
    shown = WORLD.events(pen, WORLD.person(pen), pen.rng.randint(2, 10))
    lesson = teacher.infer(shown)
    target = teacher.text_of(teacher.say(pen, lesson.findings, len(shown)))
    profile, evidence = EMPTY, Evidence(plain_history([event.interaction for event in shown]))
    for event in shown:
        profile = fold(profile, event.interaction)[0]
    try:
        reply = parse_summary(f"<think>\n{lesson.thinking}\n</think>\n\n{target}", max_chars=8_000, evidence=evidence)
        check_supported(reply.text, profile, evidence, grounded=True)
    except UnusableReply:
        return False
    return reply.text == target


def test_nearly_every_target_would_be_served_whole() -> None:
    assert sum(map(is_served, range(USERS))) >= 0.95 * USERS
