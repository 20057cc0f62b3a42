"""The tiny checkpoint, written and read back by the engine's own Python, where there is one."""

import json
import subprocess
from contextlib import suppress
from pathlib import Path

from services.errors import UnusableReply
from services.prompts import build
from services.prompts.replies import parse_summary

ROOT = Path(__file__).parents[3]
PYTHON = ROOT / ".venv-engine" / "bin" / "python"

WRITE_AND_READ = """
import json, sys
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from training.config import run_script
from training.init_checkpoint import InitConfig, init_checkpoint

folder, letters = sys.argv[1], json.loads(sys.argv[2])
for _ in range(2):  # the second replaces the first
    run_script(InitConfig, init_checkpoint, ["training/configs/init_checkpoint.toml", f"output={folder}"])
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder)
torch.manual_seed(0)
ask = tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], add_generation_prompt=True,
                                    return_tensors="pt", return_dict=True)
size = ask["input_ids"].shape[1]
written = [model.generate(**ask, max_new_tokens=200)[0][size:] for _ in range(10)]
turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": '{"selection": "Item'}]
text = "h\\u00e9llo \\u4f60\\u597d <think> 12\\n\\tx"
print(json.dumps({
    "letters": [tokenizer.encode(letter) for letter in letters],
    "think": [tokenizer.encode(tag) for tag in ("<think>", "</think>")],
    "round_trip": tokenizer.decode(tokenizer.encode(text)) == text,
    "continued": tokenizer.apply_chat_template(turns, tokenize=False, continue_final_message=True),
    "unthinking": tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True,
                                                enable_thinking=False),
    "replies": [tokenizer.decode(ids, skip_special_tokens=True) for ids in written],
    "ended": [ids[-1].item() == tokenizer.eos_token_id for ids in written],
    "dtype": str(model.dtype),
}))
"""


def test_the_checkpoint_is_small_and_speaks_the_wire(tmp_path: Path) -> None:
    assert PYTHON.exists(), "the engine's environment .venv-engine is missing; `make test` makes it"
    out = tmp_path / "models" / "tiny"
    command = [str(PYTHON), "-c", WRITE_AND_READ, str(out), json.dumps(build.LETTERS)]
    read = subprocess.run(command, cwd=ROOT, check=True, timeout=300, capture_output=True, text=True)
    found = json.loads(read.stdout.splitlines()[-1])
    assert sum(path.stat().st_size for path in out.iterdir()) < 8_000_000
    assert [path.name for path in out.parent.iterdir()] == ["tiny"]
    assert "random" in (out / "README.md").read_text()
    assert all(len(ids) == 1 for ids in (*found["letters"], *found["think"]))
    assert found["round_trip"]
    assert found["continued"] == '<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n{"selection": "Item'
    assert found["unthinking"].endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    assert found["dtype"] == "torch.bfloat16"
    assert all(found["ended"])
    kept = 0
    for reply in found["replies"]:
        with suppress(UnusableReply):  # random words may say nothing
            kept += not parse_summary.parse_summary(reply, max_chars=8_000).removed
    assert kept >= 7, found["replies"]
