"""The file of a backup: JSON lines in gzip, each with its checksum, and one checksum for all.

    {"sum":"<SHA-256 of the record's bytes>","record":{"kind":"header",…}}
    {"sum":"…","record":{"kind":"tenant","tenant":"acme","quality":{…}}}
    {"sum":"…","record":{"kind":"api_key","id":"…","fields":{…}}}
    {"sum":"…","record":{"kind":"user","tenant":"acme","user":"ada","state":{…},"log":[…],…}}
    {"sum":"…","record":{"kind":"end","users":1,…,"sum":"<SHA-256 of all lines before>"}}

docs/how-to/backup.md describes the records. Reading and writing hold one line at a time.
"""

import gzip
import hashlib
import re
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO, Final

import orjson

FORMAT: Final = "alignx-backup/1"
COUNTED: Final = {"tenant": "tenants", "api_key": "api_keys", "user": "users"}
"""Kinds of records with their count in the last line."""

_LINE = re.compile(rb'\{"sum":"([0-9a-f]{64})","record":(\{.*\})\}\n', re.DOTALL)
_LEVEL = 6

Record = dict[str, Any]


class BackupInvalid(Exception):
    """The file is no backup, or no longer the one that was written."""


class BackupWriter:
    """Writes records to a binary stream. Only `end` makes the file a whole one."""

    def __init__(self, out: BinaryIO, header: Record) -> None:
        self._gzip = gzip.GzipFile(fileobj=out, mode="wb", compresslevel=_LEVEL, mtime=0, filename="")
        self._sum = hashlib.sha256()
        self.counts = dict.fromkeys((*COUNTED.values(), "events"), 0)
        self.write({"kind": "header", "format": FORMAT, **header})

    def write(self, record: Record) -> None:
        body = orjson.dumps(record)
        line = b'{"sum":"%b","record":%b}\n' % (hashlib.sha256(body).hexdigest().encode(), body)
        self._sum.update(line)
        self._gzip.write(line)
        if noun := COUNTED.get(record["kind"]):
            self.counts[noun] += 1
        self.counts["events"] += len(record.get("log", ()))

    def end(self) -> None:
        self.write({"kind": "end", **self.counts, "sum": self._sum.hexdigest()})
        self._gzip.close()


def read_records(file: BinaryIO) -> Iterator[Record]:
    """Every record, the header first and the end last. Raises BackupInvalid at the line that is not as
    it was written; what came before it was."""
    whole = hashlib.sha256()
    counts = dict.fromkeys((*COUNTED.values(), "events"), 0)
    kind = ""
    for number, line in enumerate(_lines(file), 1):
        if kind == "end":
            raise BackupInvalid(f"line {number}: something follows the end of the backup")
        record = _record(number, line)
        kind = record.get("kind", "")
        if kind == "header" and number != 1:
            raise BackupInvalid(f"line {number}: a second header")
        if number == 1 and record.get("format") != FORMAT:
            raise BackupInvalid(f"the file is of format {record.get('format')!r}; this release reads {FORMAT}")
        if kind == "end":
            _check_end(record, counts, whole.hexdigest())
        whole.update(line)
        if noun := COUNTED.get(kind):
            counts[noun] += 1
        counts["events"] += len(record.get("log", ()))
        yield record
    if not kind:
        raise BackupInvalid("the file is empty")
    if kind != "end":
        raise BackupInvalid("the file is cut short: its last line is missing")


def _lines(file: BinaryIO) -> Iterator[bytes]:
    try:
        with gzip.GzipFile(fileobj=file, mode="rb") as content:
            yield from content
    except EOFError as error:
        raise BackupInvalid("the file is cut short: its last line is missing") from error
    except (gzip.BadGzipFile, zlib.error) as error:
        raise BackupInvalid(f"the file is no gzip file or was changed: {error}") from error


def _record(number: int, line: bytes) -> Record:
    match = _LINE.fullmatch(line)
    if match is None:
        cut = "" if line.endswith(b"\n") else "; the file may be cut short"
        raise BackupInvalid(f"line {number} is not a line of a backup{cut}")
    if hashlib.sha256(match[2]).hexdigest().encode() != match[1]:
        raise BackupInvalid(f"line {number}: the checksum does not fit; the line was changed")
    record: Record = orjson.loads(match[2])
    return record


def _check_end(end: Record, counts: dict[str, int], whole: str) -> None:
    for noun, count in counts.items():
        if end.get(noun) != count:
            raise BackupInvalid(f"the file has {count} {noun}; {end.get(noun)} were written")
    if end.get("sum") != whole:
        raise BackupInvalid("the checksum of the whole file does not fit: lines were changed, moved or taken out")
