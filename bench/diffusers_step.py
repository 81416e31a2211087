"""Times training steps of LoRA on a UNet2DConditionModel of Stable Diffusion 1.5's shape (random weights) in diffusers with
PEFT, and prints one JSON object with the names of `deltaw bench`. --make FOLDER writes that model.

Needs oracle/requirements-unets.txt. The loop is that of diffusers' train_dreambooth_lora.py without its text encoder and
autoencoder: noise, time and prompt are random numbers.
"""

import argparse
import json
import pathlib
import time

from peft_step import CLIP, RATE, peak_memory_bytes  # first: it keeps tokenizers.py beside it out of the way

import peft
import torch
from diffusers import UNet2DConditionModel

SHAPE = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}  # all else is diffusers' default
TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--make", type=pathlib.Path, help="write the model to this folder and end")
    parser.add_argument("--model", help="that folder")
    parser.add_argument("--rank", type=int, default=4)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--resolution", type=int, default=512)
    parser.add_argument("--dtype", choices=["fp32", "bf16-autocast", "bf16-base"], default="bf16-base")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--gradient-checkpointing", action="store_true")
    parser.add_argument("--steps", type=int, default=4)
    args = parser.parse_args()
    torch.manual_seed(0)
    if args.make:
        UNet2DConditionModel(**SHAPE).to(torch.bfloat16).save_pretrained(args.make / "unet")
        return
    dtype = torch.bfloat16 if args.dtype == "bf16-base" else torch.float32
    model = UNet2DConditionModel.from_pretrained(args.model, subfolder="unet", torch_dtype=dtype)
    model.requires_grad_(False)
    model.add_adapter(peft.LoraConfig(r=args.rank, lora_alpha=args.rank, target_modules=TARGETS))
    trained = [p for p in model.parameters() if p.requires_grad]
    for parameter in trained:
        parameter.data = parameter.data.float()
    if args.gradient_checkpointing:
        model.enable_gradient_checkpointing()
    model.train()
    optimizer = torch.optim.AdamW(trained, lr=RATE, weight_decay=1e-2, fused=True)
    run = torch.compile(model) if args.compile else model
    side = args.resolution // 8
    latents, noise = (torch.randn(args.batch, 4, side, side, dtype=dtype) for _ in range(2))
    text = torch.randn(args.batch, 77, SHAPE["cross_attention_dim"], dtype=dtype)
    times = []
    for _ in range(args.steps):
        begin = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=args.dtype != "fp32"):
            predicted = run(latents, torch.randint(0, 1000, (args.batch,)), text).sample
        loss = torch.nn.functional.mse_loss(predicted.float(), noise.float())
        forward = time.perf_counter()
        loss.backward()
        backward = time.perf_counter()
        torch.nn.utils.clip_grad_norm_(trained, CLIP)
        optimizer.step()
        optimizer.zero_grad()
        times.append((time.perf_counter() - begin, forward - begin, backward - forward))
    step, forward, backward = min(times[1:])
    print(json.dumps({"min_ms": step * 1e3, "forward_ms": forward * 1e3, "backward_ms": backward * 1e3,
                      "all_ms": [t[0] * 1e3 for t in times[1:]], "peak_mib": peak_memory_bytes() / 2**20,
                      "trainable": sum(p.numel() for p in trained), "threads": torch.get_num_threads()}))


if __name__ == "__main__":
    main()
