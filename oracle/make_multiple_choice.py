"""Writes tests/golden/multiple_choice: encoders that score each of several texts, and choose one; and
tests/golden/choice_adapters: adapters of PEFT's on them, with logits and gradients."""
from common import (GOLDEN, Widened, generator, inputs_of, load_base, logits_of, make_batch, randomise, require_equal,
                    require_moved, save_json, save_tensors, seed_of, task_loss, widen)

import json
import shutil

import torch
import transformers
from encoder_cases import LONG, LONG_ROWS, PLAIN
from make_adapters import fill, trained_by_key
from adapter_cases import Case
from peft import IA3Config, LoraConfig, PeftModel, get_peft_model

FOLDER = GOLDEN / "multiple_choice"
ADAPTERS = GOLDEN / "choice_adapters"
CHOICES = 2  # of each question; every text has a length of its own


def questions(config, name, lengths):
    """Four texts as two questions of two choices: [2, 2, longest]; the label is the number of the right one."""
    batch = inputs_of(make_batch(config, name, lengths))
    batch = {k: v.unflatten(0, (-1, CHOICES)) for k, v in batch.items()}
    rows = len(batch["input_ids"])
    return {**batch, "labels": torch.randint(0, CHOICES, (rows,), generator=generator(name + " labels"))}


def lengths_of(family):
    return LONG_ROWS if family in LONG else [12, 9, 5, 7]


def write_case(family):
    lengths = lengths_of(family)
    folder = FOLDER / family
    torch.manual_seed(seed_of(f"{family} choices"))
    model = transformers.AutoModelForMultipleChoice.from_config(PLAIN[family]()).float()
    randomise(model, f"{family} choices").save_pretrained(folder)
    model = load_base(family, FOLDER)
    batch = questions(model.config, f"{family} choices", lengths)
    logits = logits_of(model, batch)
    require_moved(f"{family}: attention_mask", logits,
                  logits_of(model, {**batch, "attention_mask": torch.ones_like(batch["attention_mask"])}))
    for row in range(len(logits)):
        for choice in range(CHOICES):
            length = batch["attention_mask"][row, choice].sum()
            alone = {k: v[row:row + 1, choice:choice + 1, :length] for k, v in inputs_of(batch).items()}
            require_equal(f"{family}: padding", logits[row:row + 1, choice:choice + 1], logits_of(model, alone))
    double = load_base(family, FOLDER)
    with Widened():
        widen(double)
        logits64 = logits_of(double, batch)
        with torch.no_grad():
            loss = double(**inputs_of(batch), labels=batch["labels"]).loss
    require_equal(f"{family} float64", logits, logits64)
    assert loss.dtype == torch.float64 and torch.allclose(loss, task_loss(logits64, batch))
    save_tensors(folder / "io.safetensors", {**batch, "logits": logits, "logits64": logits64, "loss64": loss.reshape(1)},
                 __file__, f"{family} choices")


# ---- adapters: PEFT has no task for them, so it keeps of the head what modules_to_save names

def lora(**options):
    return LoraConfig(r=3, lora_alpha=6, **options)


def adapters():
    yield Case("lora_bert", "bert", lora(), "the head is the base's")
    yield Case("lora_roberta", "roberta", lora(modules_to_save=["classifier"]), "the last layer trains")
    yield Case("lora_distilbert", "distilbert", lora(target_modules=["q_lin", "v_lin"],
                                                     modules_to_save=["pre_classifier", "classifier"]), "the head trains")
    yield Case("ia3_electra", "electra", IA3Config(target_modules=["key", "value", "output.dense"],
                                                   feedforward_modules=["output.dense"],
                                                   modules_to_save=["sequence_summary", "classifier"]), "the head trains")
    yield Case("lora_deberta", "deberta", lora(modules_to_save=["pooler", "classifier"]), "the head trains")
    yield Case("lora_modernbert", "modernbert", lora(target_modules=["Wqkv"], modules_to_save=["head", "classifier"]),
               "the head trains")


def write_adapter(case):
    folder = ADAPTERS / case.name
    base = load_base(case.base, FOLDER)
    batch = questions(base.config, f"{case.name} batch", lengths_of(case.base))
    before = logits_of(base, batch)
    torch.manual_seed(seed_of(case.name))
    model = get_peft_model(base, case.config).eval()
    fill(model, case)
    model.save_pretrained(folder)
    (folder / "README.md").unlink()
    config = json.loads((folder / "adapter_config.json").read_text())
    assert config["task_type"] is None and config["auto_mapping"]["base_model_class"].endswith("ForMultipleChoice")
    logits = logits_of(model, batch)
    require_moved(f"{case.name}: the adapter", logits, before)
    double = PeftModel.from_pretrained(load_base(case.base, FOLDER), folder, is_trainable=True).eval()
    with Widened():
        widen(double)
        logits64 = double(**inputs_of(batch)).logits
        loss = task_loss(logits64, batch)
        loss.backward()
    require_equal(f"{case.name} float64", logits, logits64.detach())
    grads = {f"grad.{key}": value.grad for key, value in trained_by_key(double).items()}
    assert all(grad.abs().max() > 0 for key, grad in grads.items() if not key.endswith("classifier.bias"))
    save_json(folder / "case.json", {"base": case.base, "shows": case.shows})
    save_tensors(folder / "io.safetensors", {**batch, "logits": logits, "logits64": logits64.detach(),
                                             "loss64": loss.detach().reshape(1), **grads}, __file__, case.name)


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    shutil.rmtree(ADAPTERS, ignore_errors=True)
    for family in PLAIN:
        write_case(family)
        print(f"  {family}", flush=True)
    for case in adapters():
        write_adapter(case)
        print(f"  {case.name}", flush=True)


if __name__ == "__main__":
    main()
