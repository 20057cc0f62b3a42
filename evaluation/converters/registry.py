"""Conversion of official files to benchmark rows, by the name of the benchmark."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from evaluation.cases.benchmark import Benchmark, Plan, Tally
from evaluation.cases.benchmark_rows import BenchmarkRow
from evaluation.converters.alignx_rows import ALIGNX, PSOUPS_BENCHMARK
from evaluation.converters.amazon import AMAZON
from evaluation.converters.amazon_candidates import CANDIDATES
from evaluation.converters.hicupid import HICUPID
from evaluation.converters.mind import MIND
from evaluation.converters.movielens import MOVIELENS
from evaluation.converters.personamem import PERSONAMEM, PERSONAMEM_32K
from evaluation.converters.prefeval import PREFEVAL
from evaluation.converters.prism import PRISM
from evaluation.converters.uf_p_4 import UF_P_4
from training.data.whole_file import replace_file
from training.exceptions import ConfigError, DatasetError

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        MIND,
        AMAZON,
        CANDIDATES,
        MOVIELENS,
        ALIGNX,
        PERSONAMEM,
        PERSONAMEM_32K,
        PSOUPS_BENCHMARK,
        HICUPID,
        PRISM,
        UF_P_4,
        PREFEVAL,
    )
}

OTHER_KIND = "rows of another kind"


def convert(
    name: str, folder: Path, out: Path, plan: Plan, *, limit: int | None = None, kind: str | None = None
) -> Tally:
    """Writes the first `limit` rows, of all kinds or of one.

    Raises DatasetError, also when there is no row, and ConfigError when `out` cannot be written.
    """
    tally = Tally()
    rows = _filter_kind(BENCHMARKS[name].convert(folder, plan, tally), kind, tally)
    try:
        with replace_file(out) as file:
            for row in islice(rows, limit):
                file.write(row.line())
                tally.rows += 1
            if not tally.rows:
                raise DatasetError(f"{folder} gives no row; {tally.summary_line(name)}")
    except OSError as error:
        raise ConfigError(f"{out} cannot be written: {error}") from error
    return tally


def _filter_kind(rows: Iterable[BenchmarkRow], kind: str | None, tally: Tally) -> Iterator[BenchmarkRow]:
    for row in rows:
        if kind is None or row.kind == kind:
            yield row
        else:
            tally.left_out[OTHER_KIND] += 1
