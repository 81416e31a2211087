"""Writes tests/golden/prompts: a tokenizer, and adapters that PEFT started from a text and saved as they were."""
from common import GOLDEN, load_base, provenance, save_json

import os
import shutil

from peft import PromptTuningConfig, get_peft_model
from transformers import BertTokenizerFast

PROMPTS = GOLDEN / "prompts"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "do", "these", "sentence", "##s", "mean", "the", "same", "?"]
TEXT = "Do these sentences mean the same?"
CASES = {"repeated": 17, "cut": 4}  # virtual tokens; the text has ten


def main():
    shutil.rmtree(PROMPTS, ignore_errors=True)
    tokenizer = BertTokenizerFast(vocab={word: i for i, word in enumerate(WORDS)})
    tokenizer.save_pretrained(PROMPTS / "tokenizer")
    ids = tokenizer(TEXT)["input_ids"]
    assert len(ids) == 10 and tokenizer.unk_token_id not in ids, ids
    os.chdir(PROMPTS)  # PEFT writes down where the tokenizer is
    for name, count in CASES.items():
        config = PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=count, prompt_tuning_init="TEXT",
                                    prompt_tuning_init_text=TEXT, tokenizer_name_or_path="tokenizer")
        get_peft_model(load_base("bert_cls"), config).save_pretrained(name)
        (PROMPTS / name / "README.md").unlink(missing_ok=True)
        print(f"  {name}")
    save_json(PROMPTS / "case.json", {"base": "bert_cls", "cases": list(CASES),
                                      "provenance": provenance(__file__, "prompts")})


if __name__ == "__main__":
    main()
