"""Writes tests/golden/dense: methods that PEFT lacks, from their papers' equations, on a tiny model.

Nothing here is shared with an implementation: every adapted weight becomes W0 + dW, with dW written out as a matrix,
bottlenecks are hooks on the transformers model, and autograd does the rest in float64.
"""
from common import (GOLDEN, OPTIMIZER, generator, inputs_of, load_base, logits_of, make_batch, normal,
                    provenance, require_equal, require_moved, rounding_only, save_json, save_tensors, task_loss,
                    training_record)
from dense_cases import (BOTTLENECKS, CASES, DELTA, FROZEN, SHAPES, bottleneck, drawn, has_butterfly, lora_xs_planes,
                         regularisers, shrink, trains_in_base)

import re
import shutil
from dataclasses import replace

import torch
from torch.func import functional_call

DENSE = GOLDEN / "dense"
PREFIX = "base_model.model."


# ---- the model around the equations

class Patched:
    """A frozen base under one case's adapter; `stored` holds the adapter's tensors as its file does."""

    def __init__(self, case, stored, dtype=torch.float64):
        self.case = case
        self.model = load_base(case.base).to(dtype)
        self.base = {k: v.detach() for k, v in self.model.named_parameters()}
        self.modules = adapted_modules(case, self.model)
        self.values = {k: v.detach().to(dtype) for k, v in stored.items()}
        self.trained = {k: v.requires_grad_() for k, v in self.values.items()
                        if not (case.method == "lora_xs" and k.endswith(FROZEN))}
        if case.method in BOTTLENECKS:
            for module in self.modules:
                self.model.get_submodule(module).register_forward_hook(
                    lambda _, inputs, output, module=module: bottleneck(output, self.tensors(module)))

    def tensors(self, module):
        return {k: self.values[f"{PREFIX}{module}.{k}"] for k in SHAPES[self.case.method](self.case, 1, 1)}

    def __call__(self, batch):
        weights = {k: self.values.get(PREFIX + k, v) for k, v in self.base.items()}
        if self.case.method in DELTA:
            for module in self.modules:
                weights[f"{module}.weight"] = self.base[f"{module}.weight"] + DELTA[self.case.method](
                    self.case, self.tensors(module))
        return functional_call(self.model, weights, kwargs=inputs_of(batch)).logits

    def gates(self):
        return [v for k, v in self.trained.items() if k.endswith(".gate")]

    def penalty(self):
        options = self.case.options
        if options.get("orth_reg_weight"):
            terms = [sum(regularisers(self.tensors(m)).values()) for m in self.modules]
            return options["orth_reg_weight"] * sum(terms) / len(terms)
        if options.get("sparse_lambda"):
            return options["sparse_lambda"] * torch.cat(self.gates(), dim=1).abs().mean()
        return torch.zeros((), dtype=torch.float64)

    def loss(self, batch):
        return task_loss(self(batch), batch) + self.penalty()

    def after_step(self):
        xi = self.case.options.get("sparse_lambda_2")
        if xi:
            for gate in self.gates():
                gate.data = shrink(gate.data, xi, self.case.options["sparse_rule"])


def adapted_modules(case, model):
    def matches(name):
        if isinstance(case.targets, str):
            return re.fullmatch(case.targets, name)
        return any(name.endswith("." + target) for target in case.targets)
    return [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear) and matches(n)]


def draw(case):
    """An adapter's tensors as its file holds them: float32."""
    rng, model = generator(case.name), load_base(case.base)
    tensors = {}
    for module in adapted_modules(case, model):
        weight = model.get_submodule(module).weight.detach()
        planes = lora_xs_planes(case, weight) if case.method == "lora_xs" else {}
        for key, shape in SHAPES[case.method](case, *weight.shape).items():
            tensors[f"{PREFIX}{module}.{key}"] = planes[key] if key in planes else drawn(key, shape, rng)
    for key, value in model.named_parameters():
        if trains_in_base(case, key):
            change = normal(value.shape, 0.3, rng)
            tensors[PREFIX + key] = value.detach() + change + 0.2 * change.sign()
    return tensors


# ---- proofs that a case shows what it is about

def check_case(case, stored, batch, logits):
    plain = load_base(case.base)
    require_moved(f"{case.name}: the adapter", logits, logits_of(plain, batch))
    base = {PREFIX + k: v.detach() for k, v in plain.named_parameters()}

    def require(what, tensors, case=case):
        require_moved(f"{case.name}: {what}", logits, Patched(case, tensors)(batch).detach())

    for key, value in stored.items():
        if not key.endswith("key.bias"):  # softmax does not see the bias of a key
            require(key, {**stored, key: base.get(key, torch.zeros_like(value))})
    if case.method == "moslora":
        r = case.options["r"]
        mixers = {f"{PREFIX}{module}.lora_AB.weight": torch.eye(r)
                  for module in adapted_modules(case, plain)}
        require("the mixer", {**stored, **mixers}, replace(case, options={**case.options, "mixer_init": "identity"}))


def check_steps(case, stored, record, batches):
    """The proximal step zeroes some gates and not all, and the other rule ends elsewhere."""
    ends = torch.cat([v.flatten() for k, v in record.items() if k.startswith("step10.") and k.endswith(".gate")])
    assert 0.1 < (ends == 0).double().mean() < 0.9, f"{case.name}: {(ends == 0).sum()} of {len(ends)} gates are zero"
    rule = "authors" if case.options["sparse_rule"] == "soft" else "soft"
    other = Patched(replace(case, options={**case.options, "sparse_rule": rule}), stored)
    found = training_record(other.trained, other.loss, batches, other.after_step)
    apart = max((found[k] - v).abs().max().item() for k, v in record.items() if k.startswith("step10."))
    assert apart > 1e-3, f"{case.name}: the two rules end only {apart:.1e} apart"


# ---- what LoRA2 records beside

def regulariser_record(patched):
    """Value of each regulariser on each layer, and the gradients of its sum over the layers."""
    record = {}
    for kind in ("PQ", "UV", "uv"):
        values = {m: regularisers(patched.tensors(m))[kind] for m in patched.modules}
        record |= {f"reg.{kind}.{m}": v.detach().reshape(1) for m, v in values.items()}
        touched = {k: v for k, v in patched.trained.items() if "lora_" in k and not k.endswith("lora_E")}
        grads = torch.autograd.grad(sum(values.values()), list(touched.values()), allow_unused=True)
        record |= {f"reg.{kind}.grad.{k}": g for k, g in zip(touched, grads) if g is not None}
    return record


def importance_record(case, patched, batches):
    """Scores after two updates: only E and the inner planes lora_aa and lora_B count, the outer two never do.

    Sensitivity |w g|, its average (0.85) and the average of its distance from that average (0.85), from zero; an
    element scores average times distance; component i scores E_i + mean of lora_aa[:, i] + mean of lora_B[i, :].
    """
    rng = generator(case.name + " importance")
    average, distance, record = {}, {}, {}
    for step, batch in enumerate(batches, start=1):
        grads = torch.autograd.grad(patched.loss(batch), list(patched.trained.values()))
        for (key, value), grad in zip(patched.trained.items(), grads):
            if not key.endswith(("lora_E", "lora_aa", "lora_B")):
                continue
            weight = value.detach() * normal(value.shape, 0.2, rng, mean=1.0)
            record |= {f"importance.step{step}.{key}": weight, f"importance.step{step}.grad.{key}": grad}
            sensitivity = (weight * grad).abs()
            average[key] = 0.85 * average.get(key, 0) + 0.15 * sensitivity
            distance[key] = 0.85 * distance.get(key, 0) + 0.15 * (sensitivity - average[key]).abs()
    for module in patched.modules:
        def score(part):
            key = f"{PREFIX}{module}.{part}"
            return average[key] * distance[key]
        record[f"importance.score.{module}"] = (score("lora_E").squeeze(1) + score("lora_aa").mean(dim=0)
                                                + score("lora_B").mean(dim=1))
    return record


def write_case(case):
    folder = DENSE / case.name
    stored = draw(case)
    patched = Patched(case, stored)
    batches = [make_batch(patched.model.config, f"{case.name} batch {i}", lengths)
               for i, lengths in enumerate(([12, 9, 5, 7], [6, 10, 10, 8]))]
    logits64 = patched(batches[0]).detach()
    check_case(case, stored, batches[0], logits64)
    logits = Patched(case, stored, torch.float32)(batches[0]).detach()
    require_equal(f"{case.name} float64", logits, logits64)

    record = {**batches[0], **{f"batch1.{k}": v for k, v in batches[1].items()}, "logits": logits,
              "logits64": logits64, "task_loss64": task_loss(logits64, batches[0]).reshape(1),
              "penalty64": patched.penalty().detach().reshape(1)}
    if case.method == "lora2":
        record |= regulariser_record(patched)
        record |= importance_record(case, patched, batches)
    record |= training_record(patched.trained, patched.loss, batches, patched.after_step)
    if case.options.get("sparse_lambda_2"):
        check_steps(case, stored, record, batches)
    save_tensors(folder / "adapter_model.safetensors", stored, __file__, case.name)
    save_tensors(folder / "io.safetensors", record, __file__, case.name)
    save_json(folder / "case.json", {
        "name": case.name, "base": case.base, "method": case.method, "options": case.options,
        "target_modules": case.targets, "modules": patched.modules,
        "modules_to_save": ["classifier"], "trained": sorted(patched.trained),
        "rounding_only": rounding_only({k: record[f"grad.{k}"] for k in patched.trained}),
        "optimizer": OPTIMIZER, "provenance": provenance(__file__, case.name)})


def main():
    shutil.rmtree(DENSE, ignore_errors=True)
    for case in CASES:
        write_case(case)
        print(f"  {case.name}")


if __name__ == "__main__":
    main()
