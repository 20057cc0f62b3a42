"""Rows as tokens, made once and in batches, and kept as an Arrow file that every process maps.

An encoder says what a row becomes. The file is named by all it depends on: the data, the tokenizer,
the encoder's settings. A prompt's tokens are exactly those an engine reads; the reply follows them.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Final, Generic, Literal, TypeVar

import pyarrow as pa
from datasets import Dataset

from training.data.formats import Row, SftRow
from training.data.reading import ReadReport, read
from training.exceptions import DatasetError

AT_ONCE: Final = 1024
"""Rows given to the tokenizer together."""
IGNORED: Final = -100
"""Label of a token that does not count for the loss."""
LENGTH: Final = "length"
FORMAT: Final = 2
"""To be raised when what an encoder makes of the same row changes."""

Message = Mapping[str, str]
Columns = dict[str, Any]
R = TypeVar("R", bound=Row)


class Encoder(Generic[R]):
    """Base of encoders: turns rows of one kind into columns of tokens."""

    kind: type[R]
    columns: ClassVar[tuple[str, ...]]
    """Names of lists of tokens; "length" stands beside them."""

    def __init__(self, tokenizer: Any, *, max_length: int) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.end: str = tokenizer.eos_token

    @property
    def settings(self) -> tuple[object, ...]:
        """What beside the tokenizer decides over the result."""
        return (self.end, self.max_length)

    def encode(self, rows: Sequence[R]) -> list[Columns]:
        """The rows that are short enough and have something to say."""
        raise NotImplementedError

    def prompts(self, conversations: Sequence[Sequence[Message]]) -> list[str]:
        """The texts that ask for a reply."""
        rendered: list[str] = self.tokenizer.apply_chat_template(
            [[dict(message) for message in each] for each in conversations], tokenize=False, add_generation_prompt=True
        )
        return rendered

    def reply(self, prompt: str, text: str) -> str:
        """The reply after `prompt`, closed by the token that ends a turn. The chat template does not
        render it: some (DeepSeek's R1 family) cut its reasoning out, and open that in the prompt."""
        if prompt.endswith("<think>\n") and text.lstrip().startswith("<think>"):
            text = text.lstrip().removeprefix("<think>").lstrip("\n")
        return f"{text}{self.end}"

    def ids(self, texts: list[str]) -> list[list[int]]:
        encoded = self.tokenizer(texts, add_special_tokens=False, return_attention_mask=False)
        found: list[list[int]] = encoded["input_ids"]
        return found


class SftEncoder(Encoder[SftRow]):
    """Prompt and reply in one text, with the labels beside it."""

    kind = SftRow
    columns = ("input_ids", "labels")

    def __init__(self, tokenizer: Any, *, max_length: int, completion_only: bool) -> None:
        super().__init__(tokenizer, max_length=max_length)
        self.completion_only = completion_only

    @property
    def settings(self) -> tuple[object, ...]:
        return (*super().settings, self.completion_only)

    def encode(self, rows: Sequence[SftRow]) -> list[Columns]:
        prompts = self.prompts([[turn.model_dump() for turn in row.prompt] for row in rows])
        replies = [self.reply(prompt, row.completion[0].content) for prompt, row in zip(prompts, rows, strict=True)]
        found = self.ids([*prompts, *replies])
        pairs = zip(found[: len(rows)], found[len(rows) :], strict=True)
        return [self._labelled(asked, said) for asked, said in pairs if len(asked) + len(said) <= self.max_length]

    def _labelled(self, asked: list[int], said: list[int]) -> Columns:
        labels = [IGNORED] * len(asked) if self.completion_only else asked
        return {"input_ids": asked + said, "labels": labels + said, LENGTH: len(asked) + len(said)}


def tokenised(
    files: Sequence[Path],
    encoder: Encoder[R],
    cache: Path,
    *,
    limit: int | None = None,
    malformed: Literal["skip", "fatal"] = "skip",
) -> Dataset:
    """The encoder's columns of at most `limit` rows, from `cache` where they were made before.

    Raises DatasetError for files of another kind, and when no row is left.
    """
    path = cache / f"{_name(files, encoder, limit)}.arrow"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        report, fresh = ReadReport(), path.with_suffix(".fresh")
        rows = (row for file in files for row in read(file, encoder.kind, malformed=malformed, report=report))
        seen, kept = _write(fresh, islice(rows, limit), encoder)
        if not kept:
            raise DatasetError(
                f"{', '.join(map(str, files))}: none of the {seen:,} rows can be used; "
                f"each is longer than max_length, {encoder.max_length} tokens, or shows nothing of its user"
            )
        fresh.replace(path)
        print(f"{kept:,} rows tokenised; {seen - kept:,} too long or empty, {report.left_out:,} malformed", flush=True)
    return Dataset.from_file(str(path))


def _write(path: Path, rows: Iterator[R], encoder: Encoder[R]) -> tuple[int, int]:
    tokens = pa.list_(pa.int32())
    schema = pa.schema(dict.fromkeys(encoder.columns, tokens) | {LENGTH: pa.int32()})
    seen = kept = 0
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as stream:
        while batch := list(islice(rows, AT_ONCE)):
            made = encoder.encode(batch)
            seen, kept = seen + len(batch), kept + len(made)
            arrays = [pa.array([row[field.name] for row in made], field.type) for field in schema]
            stream.write_batch(pa.record_batch(arrays, schema=schema))
    return seen, kept


def _name(files: Sequence[Path], encoder: Encoder[Any], limit: int | None) -> str:
    """Stands for the data (by place, size and time), the tokenizer and the encoder."""
    stats = [each.stat() for file in files for each in _files(file)]
    parts = [
        FORMAT,
        type(encoder).__name__,
        [str(file.resolve()) for file in files],
        [(stat.st_size, stat.st_mtime_ns) for stat in stats],
        encoder.tokenizer.backend_tokenizer.to_str(),
        encoder.tokenizer.chat_template,
        encoder.settings,
        limit,
    ]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]


def _files(path: Path) -> Iterable[Path]:
    if not path.exists():
        raise DatasetError(f"{path} does not exist")
    return [path] if path.is_file() else sorted(path.glob("*"))
