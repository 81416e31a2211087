"""Writes tests/golden/adalora_trace: what PEFT's RankAllocator decides over twelve steps.

The weights walk at random and the gradients are invented, every component with its own strength that changes from
step to step, so that components fall, come back, and layers end with different ranks.
"""
from common import GOLDEN, generator, load_base, normal, provenance, save_json, save_tensors

import shutil
import warnings

import torch
from peft import AdaLoraConfig, get_peft_model

FOLDER = GOLDEN / "adalora_trace"
NAME = "adalora_trace"
warnings.filterwarnings("ignore")
SCHEDULE = {"init_r": 6, "target_r": 2, "tinit": 2, "tfinal": 3, "deltaT": 2, "total_step": 12, "beta1": 0.85,
            "beta2": 0.8}


def key_of(name):
    """bert....query.lora_A.default -> bert....query.lora_A"""
    return name.removesuffix(".default")


def scores(allocator, modules):
    """Score of every component, from the allocator's own averages: E plus the means over A's rows and B's columns."""
    found = {}
    for module in modules:
        a, b, e = (allocator._element_score(f"{module}.{part}.default") for part in ("lora_A", "lora_B", "lora_E"))
        found[module] = e.view(-1) + torch.stack([a.mean(dim=1), b.mean(dim=0)], dim=1).sum(dim=1)
    return found


def walk(adapters, modules, rng):
    """New weights and gradients, as an optimiser step would leave them."""
    with torch.no_grad():
        for module in modules:
            strength = torch.exp(normal((SCHEDULE["init_r"], 1), 1.5, rng))
            for part in ("lora_A", "lora_B", "lora_E"):
                value = adapters[f"{module}.{part}.default"]
                value.add_(normal(value.shape, 0.2, rng))
                value.grad = normal(value.shape, 1.0, rng) * (strength.T if part == "lora_B" else strength)


def record_scores(allocator, modules):
    """The scores at every pruning, taken just before the allocator uses them."""
    seen, prune = [], allocator.mask_to_budget

    def mask_to_budget(model, budget):
        seen.append(scores(allocator, modules))
        return prune(model, budget)

    allocator.mask_to_budget = mask_to_budget
    return seen


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    config = AdaLoraConfig(task_type="SEQ_CLS", target_modules=["query", "value"], lora_alpha=6, **SCHEDULE)
    model = get_peft_model(load_base("bert_cls"), config)
    adapters = {n: p for n, p in model.base_model.model.named_parameters() if "lora_" in n}
    modules = sorted({n.rsplit(".", 2)[0] for n in adapters})
    rng = generator(NAME)
    with torch.no_grad():
        for name in sorted(adapters):
            adapters[name].copy_(normal(adapters[name].shape, 0.4, rng))
    allocator, settings = model.base_model.rankallocator, model.peft_config["default"]
    seen = record_scores(allocator, modules)
    tensors, steps = {}, []
    for step in range(1, SCHEDULE["total_step"] + 1):
        walk(adapters, modules, rng)
        for name, value in adapters.items():
            tensors[f"step{step}.{key_of(name)}"] = value.detach().clone()
            tensors[f"step{step}.grad.{key_of(name)}"] = value.grad.clone()
        model.base_model.update_and_allocate(step)

        last = SCHEDULE["total_step"] - SCHEDULE["tfinal"]
        budget, due = allocator.budget_schedule(step)
        pruned = step == last or (due and step < last)
        record = {"step": step, "budget": budget, "pruned": pruned, "masked": pruned or step > last}
        after = {m: adapters[f"{m}.lora_E.default"].detach().clone() for m in modules}
        for module, value in after.items():
            tensors[f"step{step}.after.{module}.lora_E"] = value
            kept = value.view(-1) != 0
            if record["masked"]:
                assert kept.tolist() == [bool(k) for k in settings.rank_pattern[f"{module}.lora_E.default"]]
        if pruned:
            found = seen.pop()
            for module, value in found.items():
                tensors[f"step{step}.score.{module}"] = value
            ranked = torch.cat(list(found.values())).sort().values
            cut = allocator.init_bgt - budget
            record["threshold"] = ranked[cut - 1].item()
            margin = (ranked[cut] - ranked[cut - 1]) / ranked[cut]
            assert margin > 1e-3, f"step {step}: two scores are too close to tell apart: {margin}"
        if record["masked"]:
            record["mask"] = {m: (after[m].view(-1) != 0).tolist() for m in modules}
            assert sum(map(sum, record["mask"].values())) == budget
        steps.append(record)
    masks = [r["mask"] for r in steps if r["pruned"]]
    assert any(now[m][i] and not then[m][i] for then, now in zip(masks, masks[1:]) for m in modules
               for i in range(SCHEDULE["init_r"])), "no component grows back"
    assert len({sum(mask) for mask in masks[-1].values()}) > 1, "all layers keep the same rank"
    save_tensors(FOLDER / "trace.safetensors", tensors, __file__, NAME)
    final = {key_of(n): [bool(k) for k in kept] for n, kept in settings.rank_pattern.items()}
    save_json(FOLDER / "trace.json", {"schedule": SCHEDULE, "modules": modules, "steps": steps, "rank_pattern": final,
                                      "provenance": provenance(__file__, NAME)})


if __name__ == "__main__":
    main()
