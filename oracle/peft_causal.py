"""Trains one PEFT adapter on a causal checkpoint over rows that were tokenised before, and appends the validation loss
before and after as one JSON line.

The baseline that deltaw's own runs on language models are compared with: the same rows in the same order, float32, AdamW
without decay, a rate that falls linearly to zero, gradients clipped at 1. A line of the rows' files is

    {"ids": [...], "token_labels": [...]}

with -100 where a token is not trained on; without `token_labels` every token is. The training file holds the rows of all
epochs in the order of training.
"""
import argparse
import json
import math
import sys
import time
from pathlib import Path

sys.path.append(sys.path.pop(0))  # installed packages before the scripts of this folder

import peft
import torch
import transformers
from transformers import AutoModelForCausalLM, get_linear_schedule_with_warmup


def read_rows(path):
    with open(path, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file if line.strip()]
    return [(row["ids"], row.get("token_labels", row["ids"])) for row in rows]


def to_batch(rows):
    """Padded on the right; labels -100 there."""
    width = max(len(ids) for ids, _ in rows)

    def padded(values, filler):
        return torch.tensor([list(v) + [filler] * (width - len(v)) for v in values])

    return {"input_ids": padded([ids for ids, _ in rows], 0),
            "attention_mask": padded([[1] * len(ids) for ids, _ in rows], 0),
            "labels": padded([labels for _, labels in rows], -100)}


def summed_loss(model, batch):
    """Sum of the next tokens' cross-entropies, and how many there are."""
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits[:, :-1]
    labels = batch["labels"][:, 1:]
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
    return loss, int((labels != -100).sum())


def evaluate(model, rows, batch_size):
    """Mean loss of a token over all rows."""
    model.eval()
    total, tokens = 0.0, 0
    with torch.no_grad():
        for start in range(0, len(rows), batch_size):
            loss, count = summed_loss(model, to_batch(rows[start:start + batch_size]))
            total, tokens = total + loss.item(), tokens + count
    model.train()
    return total / tokens


def adapter_config(args, total_steps):
    common = {"task_type": "CAUSAL_LM", "target_modules": args.target_modules}
    if args.method == "lora":
        return peft.LoraConfig(r=args.r, lora_alpha=args.alpha, lora_dropout=0.0, **common)
    if args.method == "randlora":
        return peft.RandLoraConfig(r=args.r, randlora_alpha=args.alpha, randlora_dropout=0.0, **common)
    return peft.AdaLoraConfig(init_r=args.r + args.r // 2, target_r=args.r, lora_alpha=args.alpha, lora_dropout=0.0,
                              tinit=total_steps // 10, tfinal=total_steps // 3, deltaT=10, orth_reg_weight=0.1,
                              total_step=total_steps, **common)


def penalty(model, args):
    """AdaLoRA's, as PEFT's own forward adds it to a loss that it computes itself."""
    if args.method != "adalora":
        return 0.0
    norms = []
    for name, value in model.base_model.model.named_parameters():
        if "lora_A" in name or "lora_B" in name:
            gram = value @ value.T if "lora_A" in name else value.T @ value
            norms.append(torch.linalg.norm(gram - torch.eye(len(gram))))
    return 0.1 * sum(norms) / len(norms)


def run(args):
    train, valid = read_rows(args.train), read_rows(args.valid)
    transformers.set_seed(args.seed)
    base = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32)
    per_step = args.batch_size * args.accumulation
    total_steps = math.ceil(len(train) / per_step)
    model = peft.get_peft_model(base, adapter_config(args, total_steps))
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=args.lr, weight_decay=0.0)
    schedule = get_linear_schedule_with_warmup(optimizer, math.ceil(args.warmup_ratio * total_steps), total_steps)
    before = evaluate(model, valid, args.batch_size)
    model.train()
    losses, begin = [], time.time()
    for step in range(1, total_steps + 1):
        rows = train[(step - 1) * per_step:step * per_step]
        batches = [to_batch(rows[i:i + args.batch_size]) for i in range(0, len(rows), args.batch_size)]
        tokens = sum(int((batch["labels"][:, 1:] != -100).sum()) for batch in batches)
        step_loss = 0.0
        for batch in batches:
            loss, _ = summed_loss(model, batch)
            (loss / tokens + penalty(model, args) / len(batches)).backward()
            step_loss += loss.item() / tokens
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        if args.method == "adalora":
            model.base_model.update_and_allocate(step)
        optimizer.zero_grad()
        losses.append(step_loss)
        if step % 50 == 0:
            print(f"{args.method} step {step}/{total_steps} loss {sum(losses[-50:]) / 50:.4f} "
                  f"{time.time() - begin:.0f} s", file=sys.stderr, flush=True)
    seconds = time.time() - begin
    if args.save:
        model.save_pretrained(args.save)
    return {
        "model": Path(args.model).name, "method": args.method, "seed": args.seed, "lr": args.lr, "r": args.r,
        "alpha": args.alpha, "target_modules": args.target_modules, "rows": len(train), "steps": total_steps,
        "batch_size": args.batch_size, "accumulation": args.accumulation, "warmup_ratio": args.warmup_ratio,
        "trainable": sum(p.numel() for p in trained), "valid_loss_before": before,
        "valid_loss_after": evaluate(model, valid, args.batch_size),
        "train_loss_last_50": sum(losses[-50:]) / len(losses[-50:]), "seconds": round(seconds, 1),
        "threads": args.threads, "peft": peft.__version__, "transformers": transformers.__version__,
        "torch": torch.__version__,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="folder of the base checkpoint")
    parser.add_argument("--train", required=True, help="JSON lines: the rows of all epochs, in the order of training")
    parser.add_argument("--valid", required=True, help="JSON lines: the rows that are not trained on")
    parser.add_argument("--method", choices=["lora", "randlora", "adalora"], default="lora")
    parser.add_argument("--target_modules", nargs="+", default=["all-linear"], help="suffixes, or all-linear")
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--r", type=int, help="default: 8, for RandLoRA 32")
    parser.add_argument("--alpha", type=int, help="default: 16, for RandLoRA 640")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--accumulation", type=int, default=1, help="batches to a step")
    parser.add_argument("--warmup_ratio", type=float, default=0.0)
    parser.add_argument("--seed", type=int, default=42, help="of the adapter's start")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--save", help="folder to write the adapter to")
    parser.add_argument("--out", help="JSON lines file to append to")
    args = parser.parse_args()
    args.r = args.r or {"randlora": 32}.get(args.method, 8)
    args.alpha = args.alpha or {"randlora": 640}.get(args.method, 16)
    if args.target_modules == ["all-linear"]:
        args.target_modules = "all-linear"
    torch.set_num_threads(args.threads)
    transformers.utils.logging.disable_progress_bar()
    result = run(args)
    if args.out:
        with open(args.out, "a", encoding="utf-8") as out:
            out.write(json.dumps(result) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
