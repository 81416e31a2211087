"""Trains one PEFT adapter on MRPC or STS-B and appends the dev metrics as one JSON line.

The baseline that deltaw's own runs are compared with: three epochs, batch 32, length 128, 6 % warm-up, float32.
"""
import argparse
import csv
import json
import math
import os
import sys
import time
from pathlib import Path

sys.path.append(sys.path.pop(0))  # installed packages before the scripts of this folder

import numpy as np
import peft
import torch
import transformers
from scipy.stats import pearsonr, spearmanr
from transformers import AutoModelForSequenceClassification, AutoTokenizer, get_linear_schedule_with_warmup

LINEARS = ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"]
TASKS = {  # folder, the columns of the two sentences and of the label, number of outputs
    "mrpc": ("MRPC", 3, 4, 0, 2),
    "stsb": ("STS-B", 7, 8, 9, 1),
}


def read_rows(path, task):
    _, left, right, label, outputs = TASKS[task]
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]
    return [(row[left], row[right], int(row[label]) if outputs > 1 else float(row[label])) for row in rows]


def to_batch(rows, tokenizer, max_length, outputs):
    batch = tokenizer([r[0] for r in rows], [r[1] for r in rows], truncation=True, max_length=max_length,
                      padding="longest", return_tensors="pt")
    batch["labels"] = torch.tensor([r[2] for r in rows], dtype=torch.long if outputs > 1 else torch.float32)
    return batch


def adapter_config(args, total_steps):
    common = {"task_type": "SEQ_CLS", "target_modules": LINEARS, "modules_to_save": ["classifier"]}
    if args.method == "prompt_tuning":
        return peft.PromptTuningConfig(task_type="SEQ_CLS", num_virtual_tokens=args.r, modules_to_save=["classifier"])
    if args.method in ("lora", "dora"):
        return peft.LoraConfig(r=args.r, lora_alpha=args.alpha, lora_dropout=0.0,
                               use_dora=args.method == "dora", **common)
    if args.method == "randlora":
        return peft.RandLoraConfig(r=args.r, randlora_alpha=args.alpha, randlora_dropout=0.0, **common)
    if args.method == "adalora":
        return peft.AdaLoraConfig(init_r=args.r + args.r // 2, target_r=args.r, lora_alpha=args.alpha,
                                  lora_dropout=0.0, tinit=total_steps // 10, tfinal=total_steps // 3, deltaT=10,
                                  orth_reg_weight=0.1, total_step=total_steps, **common)
    return peft.IA3Config(feedforward_modules=["output.dense"], task_type="SEQ_CLS", modules_to_save=["classifier"],
                          target_modules=["key", "value", "output.dense"])


def evaluate(model, rows, tokenizer, args, outputs):
    model.eval()
    predictions = []
    with torch.no_grad():
        for start in range(0, len(rows), 64):
            batch = to_batch(rows[start:start + 64], tokenizer, args.max_length, outputs)
            batch.pop("labels")
            logits = model(**batch).logits
            predictions += (logits.argmax(-1) if outputs > 1 else logits.squeeze(-1)).tolist()
    model.train()
    gold, predicted = np.array([r[2] for r in rows]), np.array(predictions)
    if outputs == 1:
        return {"pearson": float(pearsonr(predicted, gold)[0]), "spearman": float(spearmanr(predicted, gold)[0])}
    hits = int(((predicted == 1) & (gold == 1)).sum())
    f1 = 2 * hits / max(1, int((predicted == 1).sum() + (gold == 1).sum()))
    return {"accuracy": float((predicted == gold).mean()), "f1": f1, "predicted_positive": float(predicted.mean())}


def run(args):
    folder, *_, outputs = TASKS[args.task]
    train = read_rows(Path(args.data) / folder / "train.tsv", args.task)
    dev = read_rows(Path(args.data) / folder / "dev.tsv", args.task)
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    transformers.set_seed(args.seed)
    base = AutoModelForSequenceClassification.from_pretrained(args.model, num_labels=outputs, dtype=torch.float32)
    total_steps = args.epochs * math.ceil(len(train) / args.batch_size)
    model = peft.get_peft_model(base, adapter_config(args, total_steps))
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=args.lr, weight_decay=0.0)
    schedule = get_linear_schedule_with_warmup(optimizer, math.ceil(0.06 * total_steps), total_steps)
    order = torch.Generator().manual_seed(args.seed)
    model.train()
    step, losses, begin = 0, [], time.time()
    for epoch in range(args.epochs):
        for picked in torch.randperm(len(train), generator=order).split(args.batch_size):
            loss = model(**to_batch([train[i] for i in picked], tokenizer, args.max_length, outputs)).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            schedule.step()
            step += 1
            if args.method == "adalora":
                model.base_model.update_and_allocate(step)
            optimizer.zero_grad()
            losses.append(loss.item())
            if step % 50 == 0:
                print(f"{args.task} {args.method} seed {args.seed} step {step}/{total_steps} "
                      f"loss {np.mean(losses[-50:]):.4f} {time.time() - begin:.0f} s", file=sys.stderr, flush=True)
    seconds = time.time() - begin
    return {
        "task": args.task, "method": args.method, "seed": args.seed, "lr": args.lr, "r": args.r, "alpha": args.alpha,
        "epochs": args.epochs, "batch_size": args.batch_size, "max_length": args.max_length, "steps": step,
        "trainable": sum(p.numel() for p in trained), "train_loss_last_50": float(np.mean(losses[-50:])),
        **evaluate(model, dev, tokenizer, args, outputs), "seconds": round(seconds, 1), "threads": args.threads,
        "peft": peft.__version__, "transformers": transformers.__version__, "torch": torch.__version__,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", choices=sorted(TASKS), required=True)
    parser.add_argument("--method", choices=["lora", "randlora", "adalora", "dora", "ia3", "prompt_tuning"],
                        default="lora")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--alpha", type=int, help="default: 16, for RandLoRA 640")
    parser.add_argument("--r", type=int, help="default: 8, for RandLoRA 32, of prompt tuning the virtual tokens, 20")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--max_length", type=int, default=128)
    parser.add_argument("--model", required=True, help="folder of the base checkpoint")
    parser.add_argument("--data", help="folder of the GLUE tasks; default: $DELTAW_DATA/glue")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", required=True, help="JSON lines file to append to")
    args = parser.parse_args()
    args.r = args.r or {"randlora": 32, "prompt_tuning": 20}.get(args.method, 8)
    args.alpha = args.alpha or {"randlora": 640}.get(args.method, 16)
    args.data = args.data or str(Path(os.environ["DELTAW_DATA"]) / "glue")
    torch.set_num_threads(args.threads)
    result = run(args)
    with open(args.out, "a", encoding="utf-8") as out:
        out.write(json.dumps(result) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
