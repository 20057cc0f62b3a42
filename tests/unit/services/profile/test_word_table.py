"""The table of word vectors, as the package holds it."""

import subprocess
import sys
from threading import Thread

import numpy as np
import pytest

from services.profile import word_table
from services.profile.style_features import words
from services.profile.word_table import MAX_CACHED, WIDTH, embed, load


@pytest.mark.parametrize(
    ("text", "near", "far"),
    [
        ("horror films", "scary movies", "romantic comedies"),
        ("seafood", "grilled salmon with lemon", "a leather jacket"),
        ("películas de terror", "una película de miedo", "un libro de cocina"),
    ],
)
def test_texts_of_one_meaning_are_near(text: str, near: str, far: str) -> None:
    here, close, apart = embed([text, near, far])
    assert here @ close > here @ apart + 0.1


def test_every_row_has_length_one_or_no_words() -> None:
    vectors = embed(["", "  …  ", "film", "映画が好き", "x" * 5_000, "naïve café"])
    assert vectors.shape == (6, WIDTH)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([0, 0, 1, 1, 1, 1], abs=1e-5)
    assert embed([]).shape == (0, WIDTH)


def test_more_words_than_are_cached_from_several_threads_give_the_same_vectors() -> None:
    texts = [" ".join(f"word{number * 40 + place}" for place in range(40)) for number in range(MAX_CACHED // 30)]
    alone = np.concatenate([word_table.WordTable(word_table.find_folder()).embed([words(text)]) for text in texts[:3]])
    results: list[word_table.Vectors] = []
    threads = [Thread(target=lambda: results.append(embed(texts))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(result, results[0]) for result in results)
    assert np.allclose(results[0][:3], alone)


def test_it_loads_nothing_that_asks_a_network() -> None:
    code = "import sys; from services.profile.word_table import load; load(); print(*sys.modules)"
    loaded = set(subprocess.check_output([sys.executable, "-c", code], text=True).split())
    assert not loaded & {"wordllama", "requests", "huggingface_hub", "torch"}


def test_a_process_without_the_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_table, "find_spec", lambda _: None)
    load.cache_clear()
    with pytest.raises(ModuleNotFoundError, match=r"alignx\[services\]"):
        load()
