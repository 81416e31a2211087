"""Trains a pair of towers on CIFAR-10's class names with transformers and PEFT's LoRA, as `deltaw train
examples/images/captions.yaml` does with the same settings, and prints its zero-shot accuracy before and after.

PAIR is the folder that `deltaw convert --vision_model_name_or_path` writes; DATA has train_2k.bin and test_2k.bin. The loss is
CLIP's with several right captions, which share the probability; transformers' own counts one of them as right. Needs Pillow
(pip install pillow==13.0.0) beside requirements.txt.
"""
import argparse
import math
import time
from pathlib import Path

import numpy
import torch
from peft import LoraConfig, inject_adapter_in_model
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer, VisionTextDualEncoderModel

NAMES = "airplane automobile bird cat deer dog frog horse ship truck".split()
TARGETS = r".*(self\.(query|value)|layers\.\d+\.attention\.[qv]_proj)"
WHOLE = ("visual_projection", "text_projection", "vision_model.pooler", "logit_scale")


def rows_of(file):
    """Images [n, 32, 32, 3] and classes of a file of CIFAR-10's binary form."""
    rows = numpy.fromfile(file, dtype=numpy.uint8).reshape(-1, 3073)
    return rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), torch.from_numpy(rows[:, 0].astype(numpy.int64))


def loss_of(logits, classes):
    right = classes.unsqueeze(1).eq(classes.unsqueeze(0)).float()
    share = right / right.sum(1, keepdim=True)
    return -(share * (logits.log_softmax(1) + logits.t().log_softmax(1))).sum(1).mean() / 2


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pair", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=1e-3)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    model = VisionTextDualEncoderModel.from_pretrained(args.pair, dtype=torch.float32)
    inject_adapter_in_model(LoraConfig(r=8, lora_alpha=16, target_modules=TARGETS), model)
    adapted = {name.rsplit(".lora_", 1)[0] for name, _ in model.named_parameters() if ".lora_" in name}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name or name.startswith(WHOLE))
    trained = [p for p in model.parameters() if p.requires_grad]
    processor = AutoImageProcessor.from_pretrained(args.pair, backend="pil")
    tokenizer = AutoTokenizer.from_pretrained(args.pair)
    captions = tokenizer([f"a photo of a {name}." for name in NAMES], return_tensors="pt", padding=True)

    def logits_of(images):
        pixels = processor([Image.fromarray(image) for image in images], return_tensors="pt")["pixel_values"]
        with torch.autocast("cpu", torch.bfloat16):
            return model(pixel_values=pixels, **captions).logits_per_image.float()

    def accuracy(images, classes):
        model.eval()
        with torch.no_grad():
            found = [logits_of(images[i:i + 50]).argmax(1) for i in range(0, len(images), 50)]
        return 100 * (torch.cat(found) == classes).float().mean().item()

    images, classes = rows_of(args.data / "train_2k.bin")
    tests = rows_of(args.data / "test_2k.bin")
    before = accuracy(*tests)
    begin = time.process_time()
    optimizer = torch.optim.AdamW(trained, lr=args.rate, weight_decay=0)
    per_epoch = math.ceil(len(images) / args.batch)
    steps = per_epoch * args.epochs
    warmup = math.ceil(0.1 * steps)
    model.train()
    for step in range(steps):
        if step % per_epoch == 0:
            order = torch.randperm(len(images))
        rows = order[step % per_epoch * args.batch:][:args.batch]
        shown = logits_of([image[:, ::-1] if torch.rand(()) < 0.5 else image for image in images[rows.numpy()]])
        loss = loss_of(shown[:, classes[rows]], classes[rows])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        done = (step - warmup) / (steps - warmup)
        rate = step / warmup if step < warmup else 0.5 * (1 + math.cos(math.pi * done))
        for group in optimizer.param_groups:
            group["lr"] = args.rate * rate
        optimizer.step()
        optimizer.zero_grad()
    seconds = time.process_time() - begin
    print({"layers": len(adapted), "trained": sum(p.numel() for p in trained), "before": before, "after": accuracy(*tests),
           "loss": loss.item(), "cpu_seconds": round(seconds)})


if __name__ == "__main__":
    main()
