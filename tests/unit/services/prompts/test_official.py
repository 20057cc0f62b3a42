"""The importer of the public sentences: on a stand-in checkout, and on a real one where there is one.

The stand-in's functions build their prompts themselves, so that both can be compared byte for byte. For the real one
public_renders.json holds inputs of our own and the hashes of the prompts that the public functions make of them.
"""

import hashlib
import json
import os
import runpy
import shutil
from pathlib import Path
from typing import Any

import pytest

from alignx.schemas.interactions import ComparisonInteraction
from services.prompts.official import KNOWN_VERSION, SOURCES, UnknownForm, import_texts, main
from services.prompts.profiles import PromptProfile, load_profile

HERE = Path(__file__).parent
STAND_IN = HERE / "checkout"
CASES: dict[str, Any] = json.loads((HERE / "public_renders.json").read_text(encoding="utf-8"))
INPUTS = CASES["inputs"]


def profile_of(checkout: Path, folder: Path) -> PromptProfile:
    main([str(checkout), str(folder / "prompts.toml")])
    return load_profile(str(folder / "prompts.toml"))


def stand_in(name: str) -> dict[str, Any]:
    return runpy.run_path(str(STAND_IN / "AlignXplorePlus" / name))


def events(rows: list[dict[str, Any]]) -> list[ComparisonInteraction]:
    """A missing query reads None in the public prompts, whose rows say so; ours ask for the source's items."""
    return [ComparisonInteraction(**{**row, "query": str(row["query"])}) for row in rows]


def renders(profile: PromptProfile, inputs: dict[str, Any] = INPUTS) -> dict[str, str]:
    past, target, history = inputs["past"], inputs["target"], events(inputs["history"])
    items = [target["chosen"], target["rejected"]]
    first = profile.update_prompt(None, history, past_tokens=1_024)
    choice = profile.selection_prompt(target["query"], items, past)
    prompts = {
        "plus_summary/update": profile.update_prompt(past, history, past_tokens=1_024),
        "plus_summary/null_query": profile.update_prompt(None, events(inputs["null_history"]), past_tokens=1_024),
        "plus_summary_full/one": profile.update_prompt(None, history, past_tokens=1, whole_history=True),
        "plus_choice_direct_rec/one": profile.selection_prompt(target["query"], items, None, history),
    }
    return {
        "plus_summary/first/system": first.messages[0]["content"],
        "plus_summary/first/user": first.messages[1]["content"],
        "plus_choice/one/system": choice.messages[0]["content"],
        "plus_choice/one/user": choice.messages[1]["content"],
    } | {f"{name}/user": prompt.messages[1]["content"] for name, prompt in prompts.items()}


def test_imported_prompts_are_those_of_the_checkout(tmp_path: Path) -> None:
    past, target = INPUTS["past"], INPUTS["target"]
    inputs, evaluator = stand_in("sft/postprocess.py"), stand_in("eval/evaluate_select.py")["PreferenceEvaluator"]()
    history = inputs["build_input_prompt"](INPUTS["history"], None)
    triples = history[1]["content"].partition("History=====\n")[2].partition("\n\n=====END")[0]
    persona = stand_in("eval/evaluate_direct_rec_pair.py")["build_prompt"](triples)
    choose = lambda known: evaluator.format_prompt(target["query"], target["chosen"], target["rejected"], known)  # noqa: E731
    assert renders(profile_of(STAND_IN, tmp_path)) == {
        "plus_summary/first/system": history[0]["content"],
        "plus_summary/first/user": history[1]["content"],
        "plus_summary/update/user": inputs["build_input_prompt"](INPUTS["history"], past)[1]["content"],
        "plus_summary/null_query/user": inputs["build_input_prompt"](INPUTS["null_history"], None)[1]["content"],
        "plus_summary_full/one/user": stand_in("eval/gen_preference.py")["build_prompt"](None, INPUTS["history"], None),
        "plus_choice/one/system": evaluator.prepare_texts_for_inference("")[0]["content"],
        "plus_choice/one/user": choose(past),
        "plus_choice_direct_rec/one/user": choose(persona),
    }


def test_public_queries_stand_for_missing_ones(tmp_path: Path) -> None:
    profile = profile_of(STAND_IN, tmp_path)
    for source, query in (("news", "News, please."), ("movies", "Films, please.")):
        event = ComparisonInteraction(chosen="a", rejected="b", source=source)
        assert f"*QUERY:*\n {query}\n" in profile.update_prompt(None, [event], past_tokens=16).messages[1]["content"]


def test_a_checkout_of_another_version_is_imported_with_warnings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = profile_of(STAND_IN, tmp_path)
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == len(SOURCES) - 1, "the format of a triple is that of the known version"
    assert f"warning: sft/postprocess.py: full_text differs from the known version {KNOWN_VERSION}" in warnings
    template = profile.update_prompt(None, events(INPUTS["history"]), past_tokens=1).template
    assert template.startswith("first-alignxplore-plus-official/")
    assert KNOWN_VERSION not in template


@pytest.mark.parametrize(
    ("file", "old", "new", "named"),
    [
        ("sft/postprocess.py", "full_text =", "text =", "no text named full_text"),
        ("sft/postprocess.py", "{past if past is not None", "{past if past", "not known here"),
        ("eval/evaluate_select.py", "</Item A>", "</Item 1>", "another form"),
        ("eval/gen_preference.py", "Or start.", "", "is not the text of"),
        ("eval/unify_recommendation_task.py", "his[", "his[[", "cannot be read"),
    ],
)
def test_a_checkout_of_another_form_is_refused(tmp_path: Path, file: str, old: str, new: str, named: str) -> None:
    root = shutil.copytree(STAND_IN, tmp_path / "checkout") / "AlignXplorePlus"
    text = (root / file).read_text()
    (root / file).write_text(text.replace(old, new))
    with pytest.raises(UnknownForm, match=named):
        import_texts(root)
    with pytest.raises(SystemExit, match="is not imported"):
        main([str(root), str(tmp_path / "out.toml")])


def test_the_real_checkout_gives_the_public_prompts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = os.environ.get("ALIGNX_FAMILY") or f"{os.environ.get('BENCHMARKS', '')}/AlignX-Family"
    if not (Path(folder) / "AlignXplorePlus").is_dir():
        pytest.skip(
            f"needs github.com/AntResearchNLP/AlignX-Family at {KNOWN_VERSION}: set ALIGNX_FAMILY to its folder, or "
            "BENCHMARKS to the one above it"
        )
    profile = profile_of(Path(folder), tmp_path)
    assert capsys.readouterr().err == ""
    assert {key: hashlib.sha256(text.encode()).hexdigest() for key, text in renders(profile).items()} == CASES["sha256"]


SKELETONS = Path(__file__).resolve().parents[5] / "shared" / "cases" / "family" / "prompts"


def test_prompts_are_equal_to_the_published_skeletons(tmp_path: Path) -> None:
    """Byte for byte, with the sentences of a checkout of stand-ins; its inputs are others than ours."""
    if not SKELETONS.is_dir():
        pytest.skip("../shared/cases/family is absent: this test reads the skeletons of every published prompt")
    profile = profile_of(SKELETONS / "checkout", tmp_path)
    inputs = json.loads((SKELETONS / "inputs.json").read_text(encoding="utf-8"))
    wanted = json.loads((SKELETONS / "rendered_expected.json").read_text(encoding="utf-8"))["standin_text"]
    shown = renders(profile, inputs)
    named = shown.keys() & wanted.keys()
    assert len(named) == 6
    assert {name: shown[name] for name in named} == {name: wanted[name] for name in named}
