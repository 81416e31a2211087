"""Writes tests/golden/combined: two LoRAs that PEFT combines into one, and the learning rates of its LoRA+ optimiser."""
from common import (GOLDEN, generator, inputs_of, load_base, logits_of, make_batch, normal, provenance, require_moved,
                    save_json, save_tensors)

import shutil
import warnings

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft.optimizers import create_loraplus_optimizer

FOLDER = GOLDEN / "combined"
NAME = "combined"
WEIGHTS = [0.7, -0.4]
KINDS = ["linear", "cat", "svd"]
RATE, RATIO, RATE_OF_EMBEDDINGS, DECAY = 2e-3, 8.0, 3e-5, 0.1
warnings.filterwarnings("ignore")


def randomise_adapter(model, name):
    rng = generator(name)
    with torch.no_grad():
        for key, value in model.named_parameters():
            if "lora_" in key:
                value.copy_(normal(value.shape, 0.4, rng))


def write_adapter(name, **options):
    """One adapter over its own copy of the base, without a head: PEFT combines none that bring the same module."""
    model = get_peft_model(load_base("bert_cls"), LoraConfig(**options))
    randomise_adapter(model, name)
    model.save_pretrained(FOLDER / name)
    (FOLDER / name / "README.md").unlink()


def combine():
    write_adapter("first", r=3, lora_alpha=6, target_modules=["query", "value"])
    write_adapter("second", r=3, lora_alpha=4, target_modules=["query", "intermediate.dense", "word_embeddings"])
    model = PeftModel.from_pretrained(load_base("bert_cls"), FOLDER / "first", adapter_name="first")
    model.load_adapter(FOLDER / "second", adapter_name="second")
    batch = make_batch(model.base_model.model.config, NAME)
    record = inputs_of(batch)
    for kind in KINDS:
        model.add_weighted_adapter(["first", "second"], WEIGHTS, kind, combination_type=kind)
        model.set_adapter(kind)
        record[f"{kind}.logits"] = logits_of(model.eval(), batch)
    state = get_peft_model_state_dict(model, adapter_name="linear", save_embedding_layers=False)
    record |= {f"linear.{key}": value for key, value in state.items()}
    require_moved("linear and cat", record["linear.logits"], record["cat.logits"])
    require_moved("svd and cat", record["svd.logits"], record["cat.logits"])
    save_tensors(FOLDER / "io.safetensors", record, __file__, NAME)


def key_of(name):
    """PEFT's name of a parameter as deltaw's files have it."""
    name = name.removeprefix("base_model.model.").replace(".modules_to_save.default.", ".")
    return name.replace(".default.", ".").removesuffix(".default")


def loraplus_groups():
    config = LoraConfig(task_type="SEQ_CLS", r=2, bias="all", target_modules=["query", "word_embeddings"])
    model = get_peft_model(load_base("bert_cls"), config)
    optimizer = create_loraplus_optimizer(model, torch.optim.AdamW, lr=RATE, loraplus_lr_ratio=RATIO,
                                          loraplus_lr_embedding=RATE_OF_EMBEDDINGS, loraplus_weight_decay=DECAY)
    names = {id(value): name for name, value in model.named_parameters()}
    groups = {}
    for group in optimizer.param_groups:
        for value in group["params"]:
            groups[key_of(names[id(value)])] = {"lr": group["lr"], "decays": group["weight_decay"] > 0}
    assert {entry["lr"] for entry in groups.values()} == {RATE, RATE * RATIO, RATE_OF_EMBEDDINGS}
    assert groups["classifier.bias"]["lr"] == RATE * RATIO
    return dict(sorted(groups.items()))


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    combine()
    save_json(FOLDER / "case.json", {"base": "bert_cls", "weights": WEIGHTS, "provenance": provenance(__file__, NAME)})
    save_json(FOLDER / "loraplus.json", {
        "base": "bert_cls", "learning_rate": RATE, "loraplus_lr_ratio": RATIO,
        "loraplus_lr_embedding": RATE_OF_EMBEDDINGS, "groups": loraplus_groups(),
        "provenance": provenance(__file__, NAME)})


if __name__ == "__main__":
    main()
