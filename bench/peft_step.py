"""Times training steps of PEFT on rows of random tokens and prints one JSON object with the names of `deltaw bench`.

Started by bench/compare, one process a measurement. The loop is that of transformers' Trainer on a processor: fused
AdamW, clipping at 1. The method `base` is the frozen model, with a gradient down to the embeddings and no adapter.
"""

import argparse
import json
import pathlib
import sys
import tempfile
import time

sys.path.pop(0)  # tokenizers.py beside this file has the name of a library that is needed

import peft
import torch
import transformers

CLIP, RATE = 1.0, 1e-4
CLASSES = {"SEQ_CLS": transformers.AutoModelForSequenceClassification,
           "CAUSAL_LM": transformers.AutoModelForCausalLM,
           "image-classification": transformers.AutoModelForImageClassification,
           "contrastive-image-text": transformers.CLIPModel}
IMAGE_TASKS = ("image-classification", "contrastive-image-text")
ADALORA_TARGET, ADALORA_STEPS = 6, 1000  # the first steps of a long run: it prunes in every one


def process_seconds():
    """Since this process started."""
    fields = pathlib.Path("/proc/self/stat").read_text().rsplit(")", 1)[1].split()
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / 100


def peak_memory_bytes():
    for line in pathlib.Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024


def adapter_config(method, rank, targets, task):
    common = {"task_type": task if task in peft.TaskType.__members__ else None, "target_modules": targets,
              "modules_to_save": ["classifier"] if task == "image-classification" else None}
    if method == "lora":
        return peft.LoraConfig(r=rank, **common)
    if method == "dora":
        return peft.LoraConfig(r=rank, use_dora=True, **common)
    if method == "adalora":
        return peft.AdaLoraConfig(init_r=rank, target_r=ADALORA_TARGET, total_step=ADALORA_STEPS, **common)
    if method == "randlora":
        return peft.RandLoraConfig(r=rank, **common)
    if method == "vera":
        return peft.VeraConfig(r=rank, **common)
    sys.exit(f"PEFT has no row for {method}")


def load(args):
    dtype = torch.bfloat16 if args.dtype == "bf16-base" else torch.float32
    model = CLASSES[args.task].from_pretrained(args.model, attn_implementation=args.attention, dtype=dtype)
    if args.method != "base":
        targets = args.targets if args.targets == "all-linear" else args.targets.split(",")
        return peft.get_peft_model(model, adapter_config(args.method, args.rank, targets, args.task))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(("classifier.", "score.")))
    return model


def batch_of(model, args):
    if args.task in IMAGE_TASKS:
        return image_batch(model, args)
    ids = torch.randint(1, model.config.vocab_size, (args.batch, args.length))
    batch = {"attention_mask": torch.ones_like(ids)}
    batch["labels"] = ids if args.task == "CAUSAL_LM" else torch.randint(0, model.config.num_labels, (args.batch,))
    if args.method != "base":
        return {"input_ids": ids, **batch}
    embeddings = model.get_input_embeddings()(ids).detach().requires_grad_()
    return {"inputs_embeds": embeddings, **batch}


def image_batch(model, args):
    pixels = torch.randn(args.batch, 3, args.length, args.length, dtype=model.dtype)
    if args.task == "image-classification":
        return {"pixel_values": pixels, "labels": torch.randint(0, model.config.num_labels, (args.batch,))}
    text = model.config.text_config
    ids = torch.randint(1, text.vocab_size - 2, (args.batch, text.max_position_embeddings))
    ids[:, -1] = text.eos_token_id
    return {"pixel_values": pixels, "input_ids": ids, "attention_mask": torch.ones_like(ids), "return_loss": True}


def is_head(name):
    return "modules_to_save" in name or name.startswith(("classifier.", "score."))


def check_reached(trained):
    missing = [name for name, parameter in trained if parameter.grad is None]
    if missing:
        sys.exit(f"no gradient reaches {missing[0]} and {len(missing) - 1} others")


def train(model, args):
    """Seconds of (step, forward, backward, optimiser) of each step, the end of the first, tensors with no gradient."""
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    parameters = [parameter for _, parameter in trained]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0, fused=True) if parameters else None
    run = torch.compile(model) if args.compile else model
    batch = batch_of(model, args)
    times, first, still = [], None, 0
    for step in range(args.steps):
        begin = time.perf_counter()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=args.dtype == "bf16-autocast"):
            loss = run(**batch).loss
        forward = time.perf_counter()
        loss.backward()
        backward = time.perf_counter()
        if optimizer:
            torch.nn.utils.clip_grad_norm_(parameters, CLIP)
            optimizer.step()
        if args.method == "adalora":
            model.base_model.update_and_allocate(step + 1)
        end = time.perf_counter()
        first = first or process_seconds()
        check_reached(trained)
        if step == args.steps - 1:
            still = sum(not parameter.grad.any() for parameter in parameters)
        if optimizer:
            optimizer.zero_grad()
        else:
            batch["inputs_embeds"].grad = None
        cleared = time.perf_counter() - end if step < args.steps - 1 else 0
        times.append((end - begin + cleared, forward - begin, backward - forward, end - backward + cleared))
    return times, first, still


def saved_bytes(model):
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return (pathlib.Path(folder) / "adapter_model.safetensors").stat().st_size


def merge_seconds(model):
    begin = time.perf_counter()
    model.merge_and_unload()
    return time.perf_counter() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--method", required=True)
    parser.add_argument("--task", required=True, choices=CLASSES)
    parser.add_argument("--attention", required=True, choices=["eager", "sdpa"])
    parser.add_argument("--dtype", required=True, choices=["fp32", "bf16-autocast", "bf16-base"])
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--length", type=int, required=True, help="tokens of a row, or pixels of a side")
    parser.add_argument("--rank", type=int, required=True)
    parser.add_argument("--targets", required=True)
    parser.add_argument("--steps", type=int, required=True)
    args = parser.parse_args()
    torch.manual_seed(42)
    model = load(args).train()
    times, first, still = train(model, args)
    peak = peak_memory_bytes()
    later = times[1:]
    step, forward, backward, optimizer = min(later)
    adapted = args.method != "base"
    size = saved_bytes(model) if adapted else None  # before merging, which leaves no adapter
    # AdaLoRA's counter of ranks counts as trained over a base in bf16
    trained = [(n, p.numel()) for n, p in model.named_parameters() if p.requires_grad and "ranknum" not in n]
    json.dump({
        "min_ms": step * 1e3,
        "forward_ms": forward * 1e3,
        "backward_ms": backward * 1e3,
        "optimizer_ms": optimizer * 1e3,
        "all_ms": [t[0] * 1e3 for t in later],
        "peak_mib": peak / 2**20,
        "first_step_s": first,
        "compile_s": times[0][0] - step if args.compile else None,
        "merge_ms": merge_seconds(model) * 1e3 if adapted else None,
        "trainable": sum(count for _, count in trained),
        "head_trainable": sum(count for name, count in trained if is_head(name)),
        "adapter_bytes": size,
        "tensors_with_zero_gradients": still,
        "threads": torch.get_num_threads(),
        "versions": {library.__name__: library.__version__ for library in (torch, transformers, peft)},
    }, sys.stdout)


if __name__ == "__main__":
    main()
