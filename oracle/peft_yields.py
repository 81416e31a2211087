"""Trains PEFT's LoRA on reaction yields and appends R^2 on the test rows as one JSON line.

The baseline of examples/molecules: the same files, which scripts/molecules makes, and the same recipe in float32.
"""
import argparse
import csv
import json
import math
import sys
import time
from pathlib import Path

sys.path.append(sys.path.pop(0))  # installed packages before the scripts of this folder

import numpy as np
import peft
import torch
import transformers
from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_linear_schedule_with_warmup

LINEARS = ["query", "key", "value", "attention.dense", "ffn", "ffn_output", "pooler"]


def read_rows(path, limit):
    with open(path, encoding="utf-8", newline="") as file:
        rows = [(row["rxn"], float(row["y"])) for row in csv.DictReader(file, delimiter="\t")]
    return rows[:limit]


def to_batch(rows, tokenizer, max_length):
    batch = tokenizer([text for text, _ in rows], truncation=True, max_length=max_length, padding="longest",
                      return_tensors="pt", return_token_type_ids=False)
    batch["labels"] = torch.tensor([label for _, label in rows], dtype=torch.float32)
    return batch


def evaluate(model, rows, tokenizer, max_length):
    model.eval()
    with torch.no_grad():
        parts = [model(**to_batch(rows[i:i + 64], tokenizer, max_length)).logits.squeeze(-1)
                 for i in range(0, len(rows), 64)]
    model.train()
    predicted, gold = torch.cat(parts).double().numpy(), np.array([label for _, label in rows])
    mse = float(((predicted - gold) ** 2).mean())
    return {"r2": 1 - mse / float(gold.var()), "rmse": math.sqrt(mse)}


def run(args):
    train = read_rows(Path(args.data) / "yields.train.tsv", args.train_rows)
    test = read_rows(Path(args.data) / "yields.test.tsv", args.test_rows)
    folder = Path(args.data) / "albert"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    transformers.set_seed(args.seed)
    base = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1, dtype=torch.float32)
    model = peft.get_peft_model(base, peft.LoraConfig(task_type="SEQ_CLS", r=args.r, lora_alpha=args.alpha,
                                                      target_modules=LINEARS, modules_to_save=["classifier"]))
    trained = [p for p in model.parameters() if p.requires_grad]
    total = args.epochs * math.ceil(len(train) / args.batch_size)
    optimizer = torch.optim.AdamW(trained, lr=args.lr, weight_decay=0.0)
    schedule = get_linear_schedule_with_warmup(optimizer, math.ceil(0.06 * total), total)
    order = torch.Generator().manual_seed(args.seed)
    model.train()
    losses, begin = [], time.time()
    for _ in range(args.epochs):
        for picked in torch.randperm(len(train), generator=order).split(args.batch_size):
            loss = model(**to_batch([train[i] for i in picked], tokenizer, args.max_length)).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            losses.append(loss.item())
    seconds = time.time() - begin
    return {
        "task": "yields", "method": "lora", "seed": args.seed, "lr": args.lr, "r": args.r, "alpha": args.alpha,
        "epochs": args.epochs, "batch_size": args.batch_size, "max_length": args.max_length, "steps": len(losses),
        "train_rows": len(train), "test_rows": len(test), "trainable": sum(p.numel() for p in trained),
        "train_loss": float(np.mean(losses)), **evaluate(model, test, tokenizer, args.max_length),
        "seconds": round(seconds, 1), "threads": args.threads,
        "peft": peft.__version__, "transformers": transformers.__version__, "torch": torch.__version__,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="folder that scripts/molecules made")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--alpha", type=int, default=16)
    parser.add_argument("--r", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--max_length", type=int, default=256)
    parser.add_argument("--train_rows", type=int, help="the first so many; default: all")
    parser.add_argument("--test_rows", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", required=True, help="JSON lines file to append to")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    result = run(args)
    with open(args.out, "a", encoding="utf-8") as out:
        out.write(json.dumps(result) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
