"""Rows of supervised fine-tuning from a teacher and a judge that answer by rules, over real HTTP."""

import asyncio
import json
import signal
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

from alignx.schemas.interactions import ComparisonInteraction
from services.prompts.profiles import load_profile
from tests.unit.training.synthesis.mock_engines import MockEngines, block, by_rules, history, reply_of, write_users
from training.config import load, run_script
from training.data.formats import SftRow
from training.data.reading import read
from training.exceptions import ConfigError, DatasetError, TrainingError
from training.synthesis.engines import EngineFailed, pause
from training.synthesis.options import Synthesis
from training.synthesis.output import OutputFailed
from training.synthesis.signals import ProfileScorer
from training.synthesize import synthesize

ROOT = Path(__file__).parents[3]
SHIPPED = ROOT / "training" / "configs" / "synthesize.toml"
EVENTS = [ComparisonInteraction(**triple) for triple in history(0, 24)]
"""Of user 0: by a third each, 8 events of either row."""

# The teacher is asked one by one, so that its replies to the same prompt come in one order.
TOML = """\
input = "{folder}/users.jsonl"
output = "{folder}/{name}.jsonl"
users_at_once = 3
[teacher]
url = "{url}"
concurrency = 1
backoff_s = 0.01
[judge]
url = "{url}"
concurrency = 2
backoff_s = 0.01
[targets]
most = 8
"""


def config_of(folder: Path, url: str, name: str = "sft", *overrides: str) -> Synthesis:
    path = folder / f"{name}.toml"
    path.write_text(TOML.format(folder=folder, url=url, name=name))
    return load(path, Synthesis, overrides)


def run(mock: MockEngines, folder: Path, *overrides: str, name: str = "sft", users: int = 2) -> dict[str, Any]:
    async def serve() -> dict[str, Any]:
        async with mock.serving() as url:
            return await asyncio.to_thread(synthesize, config_of(folder, url, name, *overrides))

    if not (folder / "users.jsonl").exists():
        write_users(folder / "users.jsonl", users)
    return asyncio.run(serve())


def rows_of(folder: Path, name: str = "sft") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl").read_text().splitlines()]


def journal_of(folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{name}.jsonl.journal").read_text().splitlines()]


# --- what comes out ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["own", "alignxplore-plus"])
def test_each_user_becomes_two_rows_in_the_students_words(tmp_path: Path, name: str) -> None:
    served = load_profile(name)
    report = run(MockEngines(), tmp_path, f"prompts={name}")
    rows = rows_of(tmp_path)
    assert [row.keys() for row in rows] == [{"prompt", "completion"}] * 4
    summary = "The user prefers calm. The user prefers tea."
    assert rows[0]["prompt"] == served.update_prompt(None, EVENTS[:8], past_tokens=1024).messages
    assert rows[1]["prompt"] == served.update_prompt(summary, EVENTS[8:16], past_tokens=1024).messages
    for row, user in zip(rows, (0, 0, 1, 1), strict=True):
        reasoning = f"What user {user} chose has calm and tea in common."
        content = f"<think>\n{reasoning}\n</think>\n\n{summary}"
        assert row["completion"] == [{"role": "assistant", "content": content}]
    assert len(list(read(tmp_path / "sft.jsonl", SftRow))) == report["rows_out"] == 4


def test_the_report_counts_every_stage(tmp_path: Path) -> None:
    mock = MockEngines()
    report = run(mock, tmp_path)
    assert json.loads((tmp_path / "sft.jsonl.report.json").read_text()) == report
    assert report["users"] == {
        "malformed": {},
        "in": 2,
        "too_short": 0,
        "with_0_rows": 0,
        "with_1_rows": 0,
        "with_2_rows": 2,
    }
    expected = {
        "attempted": 2,
        "without_targets": 0,
        "targets": 16,
        "candidates": 8,
        "unreadable": 2,
        "leaked": 2,
        "repeated": 0,
        "failed_first_check": 0,
        "passed_first_check": 4,
        "without_draft": 0,
        "merges": 2,
        "failed_second_check": 0,
        "engine_refused": 0,
        "rows": 2,
    }
    assert report["first"] == report["streaming"] == expected
    teacher, judge = report["this_run"]["teacher"], report["this_run"]["judge"]
    assert teacher["calls"] == 2 * (4 + 4 + 1)  # both rows of a user have the same drafts to merge
    assert teacher["cached_calls"] == 2
    assert judge["calls"] == 2 * 2 * 3 * 8 * 2  # users, rows, summaries, targets, orders
    assert teacher["calls"] + judge["calls"] == len(mock.asked)
    assert teacher["completion_tokens"] == 10 * teacher["calls"]
    assert report["all_answers"]["judge"] == {"answers": 192, "prompt_tokens": 19_200, "completion_tokens": 1_920}


def test_a_draft_may_be_guided_by_a_single_target(tmp_path: Path) -> None:
    mock = MockEngines()
    report = run(mock, tmp_path, "candidates.per_target=true", "targets.least=4", "targets.most=5", users=1)
    assert (report["first"]["targets"], report["first"]["candidates"]) == (5, 5)
    guided = [block(prompt, "held_out") for prompt in mock.prompts("<held_out>")]
    assert len(guided) == 5
    assert {text.count("<chosen>") for text in guided} == {1}


def test_the_sequence_scorer_asks_the_judge_with_the_recent_history(tmp_path: Path) -> None:
    mock = MockEngines(known=frozenset(("calm",)))
    report = run(mock, tmp_path, "targets.scorer=sequence", "targets.least=4", users=1)
    assert report["first"]["targets"] == 4  # the drinks are a coin's throw to this judge
    scored = [prompt for prompt in mock.prompts("<item ") if "<events>" in prompt]
    assert len(scored) == 2 * 16  # both orders of each choice after part 1
    assert report["rows_out"] == 2
    assert preferred_only(rows_of(tmp_path)[0], "calm")


def preferred_only(row: dict[str, Any], word: str) -> bool:
    return bool(row["completion"][0]["content"].endswith(f"\n\nThe user prefers {word}."))


def test_the_profile_foresees_what_recurs() -> None:
    scores = asyncio.run(ProfileScorer().score(EVENTS, 8))
    assert len(scores) == 16
    assert min(scores) > 0.6
    turned = [event.model_copy(update={"chosen": event.rejected, "rejected": event.chosen}) for event in EVENTS[8:9]]
    assert asyncio.run(ProfileScorer().score([*EVENTS[:8], *turned], 8))[0] < 0.4


# --- what does not -------------------------------------------------------------------------------


def leaking_merge(prompt: str, earlier: int) -> str:
    leaked = "<think>The held-out choices agree.</think>The user prefers calm. The user prefers tea."
    return leaked if "<draft " in prompt else by_rules(prompt, earlier)


CUT_OFF = MockEngines(lambda *_: reply_of("calm", "tea"), finish_reason="length")
OUTCOMES: dict[str, tuple[MockEngines, dict[str, int]]] = {
    "a teacher that gives targets away": (MockEngines(lambda prompt, _: by_rules(prompt, 2)), {"leaked": 8}),
    "a merge that gives targets away": (MockEngines(leaking_merge), {"merges": 2, "leaked": 2 + 2}),
    "replies that are cut off": (CUT_OFF, {"unreadable": 8, "without_draft": 2}),
    "drafts that teach the judge nothing": (MockEngines(lambda *_: reply_of("quiet")), {"failed_first_check": 2}),
    "half the targets, too few for a row": (MockEngines(lambda *_: reply_of("tea")), {"failed_second_check": 2}),
    "one draft, which needs no merge": (MockEngines(lambda *_: reply_of("calm", "tea")), {"merges": 0, "rows": 2}),
}


@pytest.mark.parametrize("case", OUTCOMES)
def test_what_becomes_of_two_users(case: str, tmp_path: Path) -> None:
    mock, counts = OUTCOMES[case]
    report = run(mock, tmp_path)
    rows = counts.get("rows", 0)
    assert {stage: report["first"][stage] for stage in counts} == counts
    assert report["streaming"]["attempted"] == rows, "a user without a first row gets no second"
    assert len(rows_of(tmp_path)) == report["rows_out"] == 2 * rows


def test_a_first_row_may_be_kept_alone_or_left_out(tmp_path: Path) -> None:
    def replier(prompt: str, _: int) -> str:
        return reply_of("calm") if "<past_summary>" in prompt else reply_of("calm", "tea")

    assert run(MockEngines(replier), tmp_path)["users"]["with_1_rows"] == 2
    report = run(MockEngines(replier), tmp_path, "checks.whole_users=true", name="whole")
    assert report["first"]["rows"] == 2
    assert report["users"]["with_0_rows"] == 2
    assert rows_of(tmp_path, "whole") == []


def test_short_and_unpredictable_users_are_counted_and_cost_nothing(tmp_path: Path) -> None:
    mock = MockEngines()
    write_users(tmp_path / "users.jsonl", 1, size=8)
    with (tmp_path / "users.jsonl").open("a") as file:
        taste = history(7, 24)
        turned = [triple | {"chosen": triple["rejected"], "rejected": triple["chosen"]} for triple in taste[8:]]
        file.write(json.dumps({"uid": "u7", "history": [*taste[:8], *turned[:4]], "mid_position": 6}) + "\n")
    report = run(mock, tmp_path, "targets.threshold=0.9")
    assert report["users"]["too_short"] == 1
    assert report["first"]["without_targets"] == 1
    assert mock.asked == []


# --- engines that fail ---------------------------------------------------------------------------


def test_an_overloaded_engine_is_asked_again_until_it_answers(tmp_path: Path) -> None:
    run(MockEngines(), tmp_path, name="calm")
    mock = MockEngines(status=lambda _, earlier: 503 if earlier < 1 else 200)
    report = run(mock, tmp_path, name="busy")
    assert (tmp_path / "busy.jsonl").read_bytes() == (tmp_path / "calm.jsonl").read_bytes()
    repeats = sum(usage["repeats"] for usage in report["this_run"].values())
    assert repeats == len(set(mock.asked)) == len(mock.asked) - mock.answered.total()


def test_waits_double_up_to_a_minute_and_keep_to_what_the_engine_asks() -> None:
    for tried, longest in enumerate((1, 2, 4, 8, 16, 32, 60, 60)):
        assert longest / 2 <= pause(tried, 1.0, None) <= longest
    assert pause(0, 1.0, 30.0) == 30.0


@pytest.mark.parametrize(("status", "tries"), [(503, 3), (401, 1), (404, 1)])
def test_an_engine_that_cannot_answer_ends_the_run(status: int, tries: int, tmp_path: Path) -> None:
    mock = MockEngines(status=lambda *_: status)
    with pytest.raises(EngineFailed, match=rf"The teacher at http\S+ failed {tries} times: .*status {status}.*goes on"):
        run(mock, tmp_path, "teacher.retries=2", users=1)
    assert len(mock.prompts("u")) >= tries


def test_a_judge_without_log_probabilities_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(EngineFailed, match="The judge at"):
        run(MockEngines(logprobs=False), tmp_path, "judge.retries=1")


def test_a_refused_input_costs_a_row_and_not_the_run(tmp_path: Path) -> None:
    mock = MockEngines(status=lambda prompt, _: 400 if "user 0 asks" in prompt and "<held_out>" in prompt else 200)
    report = run(mock, tmp_path)
    assert report["first"]["engine_refused"] == 1
    assert report["rows_out"] == 2


def test_an_engine_that_refuses_everything_ends_the_run(tmp_path: Path) -> None:
    mock = MockEngines(status=lambda *_: 400)
    with pytest.raises(EngineFailed, match="The teacher refused each of its first 20 calls"):
        run(mock, tmp_path, users=25)


# --- going on ------------------------------------------------------------------------------------


async def killed(mock: MockEngines, folder: Path, answers: int) -> None:
    """A run in its own process, killed once it has stored `answers` and waits for the next ones."""
    async with mock.serving() as url:
        config_of(folder, url, "killed")
        mock.hold_after = answers
        command = ("-m", "training.synthesize", str(folder / "killed.toml"))
        process = await asyncio.create_subprocess_exec(sys.executable, *command, cwd=ROOT)
        try:
            async with asyncio.timeout(60):
                while stored(folder / "killed.jsonl.answers.sqlite") < answers:
                    assert process.returncode is None, "the run ended before it was killed"
                    await asyncio.sleep(0.02)
        finally:
            process.send_signal(signal.SIGKILL)
            await process.wait()
    mock.hold_after = None


def stored(path: Path) -> int:
    if not path.exists():
        return 0
    try:
        with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
            count: int = connection.execute("SELECT COUNT(*) FROM answers").fetchone()[0]
        connection.close()
    except sqlite3.OperationalError:  # being made
        return 0
    return count


def test_a_killed_run_goes_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    users, answers = 8, 420
    undisturbed = MockEngines()
    whole = run(undisturbed, tmp_path, name="whole", users=users)
    mock = MockEngines()
    asyncio.run(killed(mock, tmp_path, answers))  # of 840: users are done, under way, and not begun
    done = len((tmp_path / "killed.jsonl.journal").read_bytes().splitlines()) - 1
    assert 0 < done < users
    for file in ("killed.jsonl", "killed.jsonl.journal"):
        with (tmp_path / file).open("ab") as torn:
            torn.write(b'{"prompt": [{"ro')
    report = run(mock, tmp_path, name="killed")
    assert (tmp_path / "killed.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert mock.answered == undisturbed.answered  # none was answered twice
    same = ("users", "first", "streaming", "rows_out", "all_answers")
    assert {name: report[name] for name in same} == {name: whole[name] for name in same}
    assert journal_of(tmp_path, "killed") == journal_of(tmp_path, "whole")
    calls = sum(usage["calls"] for usage in report["this_run"].values())
    assert calls == undisturbed.answered.total() - answers


def test_a_finished_run_asks_nothing_more(tmp_path: Path) -> None:
    run(MockEngines(), tmp_path)
    before = (tmp_path / "sft.jsonl").read_bytes()
    mock = MockEngines()
    run(mock, tmp_path)
    (tmp_path / "sft.jsonl").unlink()
    (tmp_path / "sft.jsonl.journal").unlink()
    report = run(mock, tmp_path)  # all from the store
    assert mock.asked == []
    assert report["this_run"]["judge"]["cached_calls"] == 192
    assert (tmp_path / "sft.jsonl").read_bytes() == before


def test_a_larger_limit_goes_on_from_a_smaller_one(tmp_path: Path) -> None:
    assert run(MockEngines(), tmp_path, "limit=1")["rows_out"] == 2
    report = run(MockEngines(), tmp_path, "limit=2")
    assert report["rows_out"] == 4
    assert report["this_run"]["teacher"]["calls"] == 9


def test_other_settings_or_other_users_do_not_mix(tmp_path: Path) -> None:
    run(MockEngines(), tmp_path)
    with pytest.raises(OutputFailed, match=r"sft.jsonl: was begun with another candidates.count"):
        run(MockEngines(), tmp_path, "candidates.count=2")
    write_users(tmp_path / "users.jsonl", 2, size=30)
    with pytest.raises(DatasetError, match="user 1 is not the one"):
        run(MockEngines(), tmp_path)
    (tmp_path / "sft.jsonl").write_bytes(b"")
    with pytest.raises(OutputFailed, match="fewer than"):
        run(MockEngines(), tmp_path)
    (tmp_path / "other.jsonl").write_text("mine\n")
    with pytest.raises(OutputFailed, match="no run of this kind wrote it"):
        run(MockEngines(), tmp_path, name="other")


def test_a_file_that_is_no_store_is_named(tmp_path: Path) -> None:
    (tmp_path / "sft.jsonl.answers.sqlite").write_text("not a database, but long enough to be read as one" * 9)
    with pytest.raises(TrainingError, match=r"answers.sqlite: cannot be used"):
        run(MockEngines(), tmp_path)


# --- the command line ----------------------------------------------------------------------------


def test_mistakes_are_named_before_anything_is_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run_script(
            Synthesis, synthesize, [str(SHIPPED), "targets.scorer=oracle", "checks.secnd=0.5", "judge.url=localhost"]
        )
    assert ended.value.code == 2
    said = capsys.readouterr().err
    for part in ("synthesize.toml: targets.scorer:", "'profile' or 'sequence'", "checks.secnd: unknown", "judge.url:"):
        assert part in said


def test_a_key_that_is_not_set_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="NO_SUCH_VARIABLE is not set"):
        run(MockEngines(), tmp_path, "teacher.api_key_env=NO_SUCH_VARIABLE")


def test_rows_of_another_kind_are_named(tmp_path: Path) -> None:
    (tmp_path / "users.jsonl").write_text(
        json.dumps({"task": "t", "chosen": "a", "rejected": "b", "history": []}) + "\n"
    )
    with pytest.raises(
        DatasetError, match=r"looks like AlignXplore rows, but .* AlignXplore\+ RL or UPI rows are wanted"
    ):
        run(MockEngines(), tmp_path)
