"""Tokenized rows, cached as an Arrow file that every process maps.

An encoder turns rows into tokens. The file's name is a hash of all it depends on: the data, the
tokenizer, the encoder's settings. A prompt's tokens are exactly those an engine reads; the reply follows. A
control token that a reply spells is text, not an end of its turn.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Final, Generic, TypeVar

import pyarrow as pa
from accelerate import PartialState
from datasets import Dataset

from services.prompts.build import OPENING, whole_prompt
from training.config import Data
from training.data.formats import Row, SftRow
from training.data.reading import ReadReport, read
from training.data.whole_file import replace_file
from training.exceptions import CheckpointError, DatasetError
from training.speed.prefix_sharing import IGNORED

BATCH: Final = 1024
"""Rows of one call of the tokenizer."""
LENGTH: Final = "length"
FORMAT: Final = 3
"""Raise it when an encoder encodes the same row differently."""

Message = Mapping[str, str]
Columns = dict[str, Any]
R = TypeVar("R", bound=Row)


@dataclass
class Encoder(ABC, Generic[R]):
    """Base of encoders: turns rows of one kind into columns of tokens. Raises CheckpointError (`end_token_id`)."""

    kind: type[R] = field(init=False)
    columns: ClassVar[tuple[str, ...]]
    """Names of lists of tokens; "length" stands beside them."""
    tokenizer: Any
    _: KW_ONLY
    max_length: int

    def __post_init__(self) -> None:
        self.end = end_token_id(self.tokenizer)

    @property
    def settings(self) -> tuple[object, ...]:
        """All that the tokens depend on beside rows and tokenizer."""
        options = [option.name for option in fields(self) if option.init and option.name != "tokenizer"]
        return (self.end, *(getattr(self, name) for name in options))

    @abstractmethod
    def encode(self, rows: Sequence[R]) -> list[Columns]:
        """Columns of the rows that are short enough and show something of their user."""

    def prompts(self, conversations: Sequence[Sequence[Message]]) -> list[str]:
        """The conversations as text, up to where a reply begins."""
        rendered: list[str] = self.tokenizer.apply_chat_template(
            [[dict(turn) for turn in messages] for messages in conversations],
            tokenize=False,
            add_generation_prompt=True,
        )
        return rendered

    def encode_replies(self, prompts: Sequence[str], texts: Sequence[str]) -> list[list[int]]:
        """The reply after each prompt, with the token that ends a turn. The chat template does not render it:
        some (DeepSeek's R1 family) remove its reasoning, and write <think> in the prompt."""
        replies = [_continue(prompt, text) for prompt, text in zip(prompts, texts, strict=True)]
        return [[*ids, self.end] for ids in self.ids(replies, split_special_tokens=True)]

    def ids(self, texts: list[str], **options: bool) -> list[list[int]]:
        encoded = self.tokenizer(texts, add_special_tokens=False, return_attention_mask=False, **options)
        ids: list[list[int]] = encoded["input_ids"]
        return ids


def end_token_id(tokenizer: Any) -> int:
    """The token that ends a turn. Raises CheckpointError for a tokenizer that names none: its rows would not end."""
    if tokenizer.eos_token_id is None:
        raise CheckpointError(f"the tokenizer of {tokenizer.name_or_path} names no eos_token (tokenizer_config.json)")
    end: int = tokenizer.eos_token_id
    return end


def _continue(prompt: str, reply: str) -> str:
    """`reply` without the <think> that `prompt` ends with."""
    if not prompt.rstrip().endswith(OPENING) or not reply.lstrip().startswith(OPENING):
        return reply
    rest = reply.lstrip().removeprefix(OPENING)
    return rest.lstrip("\n") if prompt.endswith("\n") else rest


@dataclass(kw_only=True)
class SftEncoder(Encoder[SftRow]):
    """Prompt and reply in one text, with the labels beside it."""

    kind = SftRow
    columns = ("input_ids", "labels")
    completion_only: bool

    def encode(self, rows: Sequence[SftRow]) -> list[Columns]:
        turns = [[turn.model_dump() for turn in row.prompt] for row in rows]
        prompts = [whole_prompt(messages) or self.prompts([messages])[0] for messages in turns]
        replies = self.encode_replies(prompts, [row.completion[0].content for row in rows])
        columns = map(self._columns, self.ids(prompts), replies)
        return [row for row in columns if row[LENGTH] <= self.max_length]

    def _columns(self, prompt: list[int], reply: list[int]) -> Columns:
        labels = [IGNORED] * len(prompt) if self.completion_only else prompt
        return {"input_ids": prompt + reply, "labels": labels + reply, LENGTH: len(prompt) + len(reply)}


def tokenize(data: Data, encoder: Encoder[R], cache: Path) -> Dataset:
    """The encoder's columns of the rows, read from `cache` where they exist. The first process writes them.

    Raises DatasetError for files of another kind, and when no row is left.
    """
    with PartialState().main_process_first():
        path = cache / f"{_cache_key(data, encoder)}.arrow"
        if not path.exists():
            _write_cache(path, data, encoder)
    return Dataset.from_file(str(path))


def longest_row(rows: Dataset) -> int:
    """Tokens of the longest of tokenized rows."""
    return int(max(rows.with_format("numpy")[LENGTH][:]))


def _write_cache(path: Path, data: Data, encoder: Encoder[R]) -> None:
    report = ReadReport()
    rows = (row for file in data.train for row in read(file, encoder.kind, malformed=data.malformed, report=report))
    with replace_file(path) as file:
        total, used = _write(file, islice(rows, data.limit), encoder)
        if not used:
            raise DatasetError(
                f"{', '.join(map(str, data.train))}: none of the {total:,} rows can be used; "
                f"each is longer than max_length, {encoder.max_length} tokens, or shows nothing of its user"
            )
    print(f"{used:,} rows tokenized; {total - used:,} too long or empty, {report.left_out:,} malformed", flush=True)


def _write(file: BinaryIO, rows: Iterator[R], encoder: Encoder[R]) -> tuple[int, int]:
    """Returns the numbers of rows read and written."""
    tokens = pa.list_(pa.int32())
    schema = pa.schema(dict.fromkeys(encoder.columns, tokens) | {LENGTH: pa.int32()})
    total = used = 0
    with pa.ipc.new_stream(file, schema) as stream:
        while batch := list(islice(rows, BATCH)):
            encoded = encoder.encode(batch)
            total, used = total + len(batch), used + len(encoded)
            arrays = [pa.array([row[column.name] for row in encoded], column.type) for column in schema]
            stream.write_batch(pa.record_batch(arrays, schema=schema))
    return total, used


def _cache_key(data: Data, encoder: Encoder[Any]) -> str:
    """A hash of the data (paths, sizes, times), the tokenizer and the encoder."""
    stats = [file.stat() for path in data.train for file in _files(path)]
    parts = [
        FORMAT,
        type(encoder).__name__,
        [str(path.resolve()) for path in data.train],
        [(stat.st_size, stat.st_mtime_ns) for stat in stats],
        encoder.tokenizer.backend_tokenizer.to_str(),
        encoder.tokenizer.chat_template,
        encoder.settings,
        data.limit,
    ]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]


def _files(path: Path) -> Iterable[Path]:
    if not path.exists():
        raise DatasetError(f"{path} does not exist")
    return [path] if path.is_file() else sorted(path.glob("*"))
