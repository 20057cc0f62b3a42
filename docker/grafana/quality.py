"""Whether the summaries are worth having: every new choice tests the summary written before it."""

from docker.grafana.panels import Dashboard, Panel, Query, Row, by, quantiles, rate, share

CORRECT = "alignx_prequential_correct_total"
TESTED = "alignx_prequential_comparisons_total"
PROBABILITY = "alignx_prequential_probability_total"

PREDICTION = Row(
    "Do summaries predict what users choose?",
    (
        Panel(
            "Predicted over an hour",
            "Share of new choices that the summary written before them predicted, a tie counting half.",
            "percentunit",
            (Query("scorer:prequential_accuracy:ratio_increase1h", by("scorer")),),
            kind="stat",
            steps=((None, "red"), (0.5, "orange"), (0.6, "green")),
        ),
        Panel(
            "Predicted over a day",
            "The same over a day: what the last hour is compared with.",
            "percentunit",
            (Query("scorer:prequential_accuracy:ratio_increase1d", by("scorer")),),
            kind="stat",
            steps=((None, "red"), (0.5, "orange"), (0.6, "green")),
        ),
        Panel(
            "Choices tested in an hour",
            "Below some hundreds, the figures beside it wander by chance.",
            "short",
            (Query("scorer:prequential_comparisons:increase1h", by("scorer")),),
            kind="stat",
            steps=((None, "orange"), (200, "green")),
        ),
        Panel(
            "Predicted, by scorer",
            "profile: the fast profile predicts. engine: the language model predicts from the summary's text.",
            "percentunit",
            (Query(share(CORRECT, TESTED, "scorer"), by("scorer")),),
            most=1,
        ),
        Panel(
            "Predicted, by what wrote the summary",
            "streaming: from the past summary and new events. full: from the whole history. user: the user's own text.",
            "percentunit",
            (Query(share(CORRECT, TESTED, "scorer", "source"), by("scorer", "source")),),
            most=1,
        ),
        Panel(
            "Probability of what users chose",
            "Mean probability that was given to the choice. It moves before the share of right ones does.",
            "percentunit",
            (Query(share(PROBABILITY, TESTED, "scorer"), by("scorer")),),
            most=1,
        ),
        Panel(
            "Choices tested",
            "By scorer and by what wrote the summary.",
            "ops",
            (Query(rate(TESTED, "scorer", "source"), by("scorer", "source")),),
            width=24,
        ),
    ),
)

SUMMARIES = Row(
    "What do summaries look like?",
    (
        Panel(
            "Length of summaries",
            "Characters. Growth without end: the model no longer leaves anything out.",
            "short",
            quantiles("alignx_summary_chars", 0.5, 0.95),
        ),
        Panel(
            "Held back",
            "Versions that predict worse than an earlier one, and trials of new models that failed.",
            "ops",
            (
                Query(rate("alignx_summary_regressions_total"), "versions"),
                Query(rate('alignx_model_trials_total{outcome="held"}'), "models"),
            ),
        ),
        Panel(
            "Refused and cleaned replies",
            "Replies of the engine that a check refused, and those from which it removed something, by check.",
            "ops",
            (
                Query(
                    rate('alignx_summary_checks_total{outcome!="passed"}', "check", "outcome"), by("check", "outcome")
                ),
            ),
        ),
        Panel(
            "Sentences of the engine",
            "supported: events speak for it. unsupported: none does. denied: dropped, about a subject nobody spoke of.",
            "ops",
            (Query(rate("alignx_summary_sentences_total", "outcome"), by("outcome")),),
            stacked=True,
        ),
        Panel(
            "Written by users",
            "Share of versions that users wrote over the model's, which says what they think of it.",
            "percentunit",
            (
                Query(
                    share('alignx_summary_versions_total{source="user"}', "alignx_summary_versions_total"),
                    "by users",
                ),
            ),
        ),
        Panel(
            "Rollbacks",
            "Rollbacks to an older version: someone liked the newer one less.",
            "ops",
            (Query(rate("alignx_rollbacks_total"), "rollbacks"),),
        ),
    ),
)

DASHBOARD = Dashboard(
    "quality",
    "Personalization quality",
    "Every new choice of a user tests the summary that was written before it.",
    (PREDICTION, SUMMARIES),
)
