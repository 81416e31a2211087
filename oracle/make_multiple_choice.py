"""Writes tests/golden/multiple_choice: encoders that score each of several texts, and choose one."""
from common import (GOLDEN, Widened, generator, inputs_of, load_base, logits_of, make_batch, randomise, require_equal,
                    require_moved, save_tensors, seed_of, task_loss, widen)

import shutil

import torch
import transformers
from encoder_cases import LONG, LONG_ROWS, PLAIN

FOLDER = GOLDEN / "multiple_choice"
CHOICES = 2  # of each question; every text has a length of its own


def questions(config, name, lengths):
    """Four texts as two questions of two choices: [2, 2, longest]; the label is the number of the right one."""
    batch = inputs_of(make_batch(config, name, lengths))
    batch = {k: v.unflatten(0, (-1, CHOICES)) for k, v in batch.items()}
    rows = len(batch["input_ids"])
    return {**batch, "labels": torch.randint(0, CHOICES, (rows,), generator=generator(name + " labels"))}


def write_case(family):
    lengths = LONG_ROWS if family in LONG else [12, 9, 5, 7]
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


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    for family in PLAIN:
        write_case(family)
        print(f"  {family}", flush=True)


if __name__ == "__main__":
    main()
