"""The rows of the AlignX family's recommendation benchmarks, and its protocol."""

import asyncio
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from evaluation.cases.benchmark import Tally
from evaluation.cases.cases import find_clusters, read_cases
from evaluation.conditions import WRITERS, Inference, Protocol
from evaluation.config import Evaluation
from evaluation.family.__main__ import app
from evaluation.family.selection_rows import read_selection
from evaluation.family.user_histories import READERS, History, Users, evaluation_row, split_users, training_row
from evaluation.models import Sampling
from services.prompts.alignxplore_plus import read_texts
from services.prompts.profiles import SHIPPED
from tests.unit.evaluation.family_sources import amazon, mind, movielens
from tests.unit.evaluation.tastes import RuleModel, local_model
from tests.unit.training.data.published_rows import psoups
from training.config import load
from training.exceptions import ConfigError

FAMILY = Path(__file__).resolve().parents[4] / "shared" / "cases" / "family"


# --- small sources in the official formats -----------------------------------------------------


def histories(users: Users) -> dict[str, History]:
    return {history.user: history for history in (*users.train, *users.test)}


def chosen(history: History) -> list[str]:
    return [pair[0] for pair in history.pairs]


def test_mind_takes_the_longest_history_and_every_click_beside_something_passed(tmp_path: Path) -> None:
    tally = Tally()
    users = READERS["mind"](mind(tmp_path), tally, 42)
    found = histories(users)
    first = [f"N{number}" for number in range(7)]
    assert chosen(found["U1"]) == [*first, "N20", "N22", "N26"]
    assert chosen(found["U3"]) == [*first, "N90", "N27"]
    assert tally.left_out["users of fewer than 9 pairs"] == 1
    assert all(rejected not in first and rejected in users.texts for _, rejected in found["U1"].pairs[:7])
    assert [pair[1] for pair in found["U1"].pairs[7:9]] == ["N21", "N21"]
    row = evaluation_row(found["U3"], users, "news?")
    assert row["history"][7]["chosen"] == "", "an article that news.tsv lacks"
    assert row["target"]["chosen"] == "Title: Title 27\nAbstract: Abstract 27"


def test_amazon_takes_every_review_and_as_many_titled_others(tmp_path: Path) -> None:
    tally = Tally()
    users = READERS["amazon"](amazon(tmp_path / "books"), tally, 42)
    order = ["a", "b", "c", "d"]
    train, test = split_users(order)
    assert (len(users.train), len(users.test)) == (len(train), len(test)) == (3, 1)
    assert [history.user for history in (*users.train, *users.test)] == ["0", "1", "2", "3"]
    by_user = dict(zip((*train, *test), (*users.train, *users.test), strict=True))
    assert len(by_user["a"].pairs) == 15, "fewer others than reviews"
    assert chosen(by_user["b"])[:3] == ["P16", "P14", "P15"], "by time, then as in the file"
    rejected = [pair[1] for pair in by_user["b"].pairs]
    assert len(set(rejected)) == 17
    assert not set(rejected) & set(chosen(by_user["b"]))
    assert users.texts["P0"] == "Title: Book 0\nDescription: ['d0']"
    assert tally.left_out["users of fewer than 17 reviews"] == 1


def test_movielens_counts_ratings_before_films_without_metadata(tmp_path: Path) -> None:
    tally = Tally()
    users = READERS["movielens"](movielens(tmp_path / "ml"), tally, 42)
    found = histories(users)
    assert {user: len(history.pairs) for user, history in found.items()} == {"2": 16, "10": 19}
    assert tally.left_out["users of fewer than 17 ratings"] == 1
    assert chosen(found["2"])[0] == "18"
    assert users.texts["18"] == "Title: Film 18 (1990), Genres: Comedy|Drama"
    assert not {rejected for _, rejected in found["2"].pairs} & set(chosen(found["2"]))


@pytest.mark.parametrize(("name", "source"), [("mind", mind), ("amazon", amazon), ("movielens", movielens)])
def test_the_command_writes_rows_that_evaluation_and_training_read(tmp_path: Path, name: str, source: Any) -> None:
    out, train = tmp_path / f"{name}_upi.jsonl", tmp_path / "train.jsonl"
    arguments = [name, str(source(tmp_path / "source")), "--out", str(out), "--train", str(train)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    lines, others = ([json.loads(line) for line in path.read_text().splitlines()] for path in (out, train))
    query = read_texts(SHIPPED).queries[{"mind": "news", "amazon": "books", "movielens": "movies"}[name]]
    assert {row["target"]["query"] for row in lines} == {query}
    assert all(choice["query"] is None for row in others for choice in row["behaviors"])
    before = out.read_bytes()
    assert CliRunner().invoke(app, [*arguments[:1], str(tmp_path / "source"), *arguments[2:]]).exit_code == 0
    assert out.read_bytes() == before, "the same files and seed give the same bytes"


def test_what_is_no_source_is_refused(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["mind", str(tmp_path), "--out", str(tmp_path / "out.jsonl")])
    assert result.exit_code == 1
    assert "behaviors.tsv" in result.output


# --- the rows that the published rules give ----------------------------------------------------


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    if not FAMILY.is_dir():
        pytest.skip("../shared/cases/family is absent: this test compares with the rows of the published rules")
    rows: dict[str, Any] = json.loads((FAMILY / "rows_expected.json").read_text(encoding="utf-8"))
    return rows


def check_users(users: Users, expected: dict[str, Any], names: Sequence[str]) -> None:
    """`names` are the users of `expected` in the order of the rows."""
    rows = [*users.train, *users.test]
    assert len(rows) == expected["rows"]
    for history, name in zip(rows, names, strict=True):
        rule = expected["users"][name]
        assert chosen(history) == [str(item) for item in rule["chosen"]]
        target = evaluation_row(history, users, "q")
        assert len(target["history"]) == rule["evaluation"]["history"]
        assert target["target"]["chosen"] == users.texts.get(str(rule["evaluation"]["target"]), "")
        assert len(training_row(history, users)["behaviors"]) == rule["pairs"]


def test_mind_is_as_published(expected: dict[str, Any]) -> None:
    rules, tally = expected["mind"], Tally()
    users = READERS["mind"](FAMILY / "sources" / "mind", tally, 42)
    check_users(users, rules, [history.user for history in (*users.train, *users.test)])
    assert (len(users.train), len(users.test)) == (rules["train_users"], rules["test_users"])
    assert tally.left_out["users of fewer than 9 pairs"] == len(rules["dropped"])
    assert len(users.texts) == rules["news"]
    for history in (*users.train, *users.test):
        rule, clicked = rules["users"][history.user], rules["users"][history.user]["from_history"]
        allowed = rules["allowed_history_negatives"][history.user]
        assert all(rejected in allowed for _, rejected in history.pairs[:clicked])
        for (_, rejected), passed in zip(history.pairs[clicked:], rule["rejected_from"][clicked:], strict=True):
            assert rejected in passed


def test_amazon_is_as_published(expected: dict[str, Any]) -> None:
    rules, tally = expected["amazon"], Tally()
    users = READERS["amazon"](FAMILY / "sources" / "amazon", tally, 42)
    names = [*rules["train"], *rules["test"]]
    check_users(users, rules, names)
    assert [history.user for history in users.train] == [str(rules["uid"][name]) for name in rules["train"]]
    assert [history.user for history in users.test] == [str(rules["uid"][name]) for name in rules["test"]]
    assert {item: users.texts[item] for item in rules["item_text"]} == rules["item_text"]
    assert len(users.texts) == rules["items"]
    for history, name in zip((*users.train, *users.test), names, strict=True):
        rejected = [pair[1] for pair in history.pairs]
        assert len(set(rejected)) == len(rejected)
        assert set(rejected) <= set(rules["users"][name]["rejected_from"])
    assert tally.left_out["users of fewer than 17 reviews"] == len(rules["dropped"])


def test_movielens_is_as_published(expected: dict[str, Any]) -> None:
    rules, tally = expected["movielens"], Tally()
    users = READERS["movielens"](FAMILY / "sources" / "movielens", tally, 42)
    names = [str(user) for user in (*rules["train"], *rules["test"])]
    check_users(users, rules, names)
    assert [history.user for history in users.train] == [str(user) for user in rules["train"]]
    assert {item: users.texts[item] for item in rules["text"]} == rules["text"]
    for history in (*users.train, *users.test):
        allowed = {str(item) for item in rules["users"][history.user]["rejected_from"]}
        assert {pair[1] for pair in history.pairs} <= allowed
    assert tally.left_out["users of fewer than 17 ratings"] == len(rules["dropped"])


def test_alignx_is_as_published(expected: dict[str, Any]) -> None:
    rules = expected["alignx"]
    upi, behaviours = read_selection(FAMILY / "sources" / "alignx" / "alignx.json", Tally())
    assert len(upi) == rules["evaluation_rows"]
    for row in upi:
        rule = rules["evaluation"][row["userid"]]
        assert (len(row["history"]), row["target"]["query"]) == (rule["history"], rule["target"])
    kept = {
        str(number): place for place, number in enumerate(n for n, row in enumerate(upi) if len(row["history"]) >= 8)
    }
    assert kept == rules["behaviour_uid_of_row"]
    assert [row["uid"] for row in behaviours] == [*range(rules["behaviour_rows"])]


def test_rows_that_quote_their_persona_stay_and_are_counted(tmp_path: Path) -> None:
    rows = [psoups("I should be brief here"), psoups(pairs=9)]
    (tmp_path / "student_phd.json").write_text(json.dumps(rows), encoding="utf-8")
    out, train = tmp_path / "student_phd_upi.jsonl", tmp_path / "train.jsonl"
    arguments = ["selection", str(tmp_path / "student_phd.json"), "--out", str(out), "--train", str(train)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0
    assert "1 rows that quote their persona, kept" in result.output
    assert "brief." not in out.read_text(encoding="utf-8").lower(), "no persona reaches a row"
    assert len(read_cases(out, limit=None)[0]) == 2
    assert len(train.read_text(encoding="utf-8").splitlines()) == 1


def test_rows_of_one_question_are_drawn_together(tmp_path: Path) -> None:
    asked = ["why?", "why?", "how?"]
    source, out = tmp_path / "student_phd.json", tmp_path / "student_phd_upi.jsonl"
    source.write_text(json.dumps([psoups() | {"prompt": question} for question in asked]), encoding="utf-8")
    assert CliRunner().invoke(app, ["selection", str(source), "--out", str(out)]).exit_code == 0
    assert find_clusters(read_cases(out, limit=None)[0]) == ("questions", asked)


# --- the protocol ------------------------------------------------------------------------------


def written_parts(folder: Path, setting: str, count: int, **protocol: Any) -> list[list[int]]:
    """The numbers of the choices in each prompt for a summary, of one user with `count` choices before the target."""
    rows = [
        {"query": f"q{number}", "chosen": f"The user likes tea {number}", "rejected": f"no{number}"}
        for number in range(count + 1)
    ]
    path = folder / "mind_upi.jsonl"
    row = {"userid": "u", "history": rows[:-1], "target": rows[-1]}
    path.write_text(json.dumps(row | protocol.pop("row", {})), encoding="utf-8")
    cases, _ = read_cases(path.rename(folder / protocol.pop("file", path.name)), limit=None)
    engine = RuleModel()
    with local_model(engine) as model:
        inference = Inference(model, Protocol.model_validate({"name": "family", **protocol}), lambda _: None)
        asyncio.run(WRITERS[setting](inference, cases))
    return [[int(number) for number in re.findall(r"\bq(\d+)", prompt)] for prompt in engine.written]


def test_recommendation_is_read_in_thirds_and_all_else_in_halves(tmp_path: Path) -> None:
    assert written_parts(tmp_path, "streaming", 11) == [[0, 1, 2], [3, 4, 5]]
    assert written_parts(tmp_path, "full", 11) == [[0, 1, 2, 3, 4, 5]]
    assert written_parts(tmp_path, "streaming", 7, file="alignx_upi.jsonl") == [[0, 1, 2], [3, 4, 5, 6]]
    assert written_parts(tmp_path, "full", 7, file="alignx_upi.jsonl") == [[*range(7)]]
    marked = {"row": {"kind": "recommendation"}, "file": "rows.jsonl"}
    assert written_parts(tmp_path, "streaming", 6, **marked) == [[0, 1], [2, 3]]


def test_a_history_that_is_too_long_is_halved(tmp_path: Path) -> None:
    assert written_parts(tmp_path, "full", 8, file="alignx_upi.jsonl", history_tokens=100)[0] in ([4, 5, 6, 7], [6, 7])


def test_one_word_sets_the_published_protocol(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('out = "o.json"\nmodel = "m"\ndata = "d"\n[protocol.sampling]\nmax_tokens = 9\n', encoding="utf-8")
    protocol = load(path, Evaluation, ["protocol=family"]).protocol
    assert protocol.sampling == Sampling(max_tokens=4_096, temperature=0.6, top_p=0.95, top_k=20, thinking=True)
    assert (protocol.prompts, protocol.choice, protocol.history_tokens) == ("alignxplore-plus", "sampled", 16_384)
    own = load(path, Evaluation, ["protocol.name=family"]).protocol
    assert (own.sampling.max_tokens, own.selection_prompts) == (9, "alignxplore-plus")
    warm = Protocol.model_validate({"name": "family", "sampling": {"temperature": 0.7}}).sampling
    assert warm == Sampling(max_tokens=4_096, temperature=0.7), "a field beside it leaves the others as they are"
    with pytest.raises(ConfigError, match="streams in two parts"):
        load(path, Evaluation, ["protocol.name=family", "protocol.updates=3"])


def test_evaluation_halves_the_published_sample_rows(expected: dict[str, Any], tmp_path: Path) -> None:
    """The rule's cut of AlignX's rows, and of the recommendation rows."""
    for rule in expected["alignx"]["evaluation"].values():
        if not rule["history"]:
            continue
        first, second = rule["stream_first"], rule["stream_second"]
        parts = written_parts(tmp_path, "streaming", rule["history"], file="alignx_upi.jsonl")
        assert parts == [[*range(*first)], [*range(*second)]][2 - len(parts) :]
    for name in ("mind", "amazon", "movielens"):
        for user in expected[name]["users"].values():
            rule = user["evaluation"]
            parts = written_parts(tmp_path, "streaming", rule["history"])
            assert [len(part) for part in parts] == [len(rule["stream_first"]), len(rule["stream_second"])]
            assert [len(part) for part in written_parts(tmp_path, "full", rule["history"])] == [rule["full"]]
