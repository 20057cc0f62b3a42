"""torchrun that ends with status 75, as its processes do, where `run.hours` end a part; torchrun itself ends with 1.

python -m training.runs.torchrun --nproc-per-node 8 -m training.sft training/configs/full/alignxplus_sft.toml
"""

from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main

from training.config import PART_ENDED

if __name__ == "__main__":
    try:
        main()
    except ChildFailedError as error:
        if PART_ENDED not in [process.exitcode for process in error.failures.values()]:
            raise
        raise SystemExit(PART_ENDED) from None
