"""Writes tests/golden/dense: MoSLoRA and LoRA2 from their papers' equations, as dense updates of a tiny model.

Nothing here is shared with an implementation: every adapted weight becomes W0 + dW, with dW written out as a matrix,
and autograd does the rest in float64.
"""
from common import (GOLDEN, OPTIMIZER, generator, inputs_of, labels_for, load_base, logits_of, make_batch, normal,
                    provenance, require_equal, require_moved, save_json, save_tensors, task_loss, training_record)

import shutil
from dataclasses import dataclass

import torch
from torch.func import functional_call

DENSE = GOLDEN / "dense"
SIX = ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"]
PREFIX = "base_model.model."


@dataclass
class Case:
    name: str
    base: str
    method: str
    targets: list
    alpha: float
    r: int
    k: int = 0
    penalty_weight: float = 0.0


CASES = [
    Case("moslora_bert", "bert_cls", "moslora", ["query", "key", "value"], alpha=9, r=4),
    Case("moslora_roberta", "roberta_reg", "moslora", SIX, alpha=6, r=3),
    Case("lora2_bert", "bert_cls", "lora2", ["query", "value", "output.dense"], alpha=10, r=4, k=2),
    Case("lora2_k1", "roberta_cls", "lora2", SIX, alpha=12, r=5, k=1),
    Case("lora2_k_above_r", "bert_reg", "lora2", ["query", "intermediate.dense"], alpha=8, r=3, k=5),
    Case("lora2_penalty", "roberta_reg", "lora2", ["value", "output.dense"], alpha=8, r=4, k=3, penalty_weight=0.1),
]


# ---- the equations, W is [q, p]

def moslora_shapes(case, q, p):
    return {"lora_A.weight": (case.r, p), "lora_AB.weight": (case.r, case.r), "lora_B.weight": (q, case.r)}


def moslora_delta(case, t):
    """dW = alpha/r B M A, the mixer M between the two subspaces."""
    return case.alpha / case.r * (t["lora_B.weight"] @ t["lora_AB.weight"] @ t["lora_A.weight"])


def lora2_shapes(case, q, p):
    return {"lora_A": (case.k, p), "lora_B": (case.r, case.k), "lora_E": (case.r, 1), "lora_aa": (case.k, case.r),
            "lora_bb": (q, case.k)}


def products(t):
    """Q = U V and P = v u of the paper, transposed to act on columns: left [q, r] and right [r, p]."""
    return t["lora_bb"] @ t["lora_aa"], t["lora_B"] @ t["lora_A"]


def lora2_delta(case, t):
    """dW = alpha/(r + 1e-5) left diag(E) right."""
    left, right = products(t)
    return case.alpha / (case.r + 1e-5) * (left @ torch.diag(t["lora_E"].squeeze(1)) @ right)


def off_orthogonal(matrix):
    """Squared Frobenius norm of the smaller Gram matrix minus the identity."""
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    return ((gram - torch.eye(len(gram), dtype=gram.dtype)) ** 2).sum()


def regularisers(t):
    """The three of the paper on one layer: the products, the pair U, V and the pair u, v."""
    left, right = products(t)
    return {"PQ": off_orthogonal(left) + off_orthogonal(right),
            "UV": off_orthogonal(t["lora_aa"]) + off_orthogonal(t["lora_bb"]),
            "uv": off_orthogonal(t["lora_B"]) + off_orthogonal(t["lora_A"])}


SHAPES = {"moslora": moslora_shapes, "lora2": lora2_shapes}
DELTA = {"moslora": moslora_delta, "lora2": lora2_delta}
SPREAD = {"lora_A": 0.4, "lora_AB": 0.6, "lora_B": 0.4, "lora_E": 1.0, "lora_aa": 0.6, "lora_bb": 0.4}


# ---- the model around them

class Patched:
    """A frozen base whose adapted weights are W0 + dW, and whose classifier trains."""

    def __init__(self, case, trained):
        self.case, self.trained = case, trained
        self.model = load_base(case.base).double()
        self.frozen = {k: v.detach() for k, v in self.model.named_parameters()}
        self.modules = adapted_modules(case, self.model)

    def tensors(self, module):
        return {k: self.trained[f"{PREFIX}{module}.{k}"] for k in SHAPES[self.case.method](self.case, 1, 1)}

    def __call__(self, batch):
        weights = dict(self.frozen)
        for module in self.modules:
            weights[f"{module}.weight"] = self.frozen[f"{module}.weight"] + DELTA[self.case.method](
                self.case, self.tensors(module))
        weights |= {k: self.trained[PREFIX + k] for k in self.frozen if k.startswith("classifier")}
        return functional_call(self.model, weights, kwargs=inputs_of(batch)).logits

    def penalty(self):
        if not self.case.penalty_weight:
            return torch.zeros((), dtype=torch.float64)
        terms = [sum(regularisers(self.tensors(m)).values()) for m in self.modules]
        return self.case.penalty_weight * sum(terms) / len(terms)

    def loss(self, batch):
        return task_loss(self(batch), labels_for(batch, torch.float64)) + self.penalty()


def adapted_modules(case, model):
    return [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)
            and any(n.endswith("." + target) for target in case.targets)]


def draw(case):
    """Trained tensors as the adapter file holds them: float32."""
    rng, model = generator(case.name), load_base(case.base)
    tensors = {}
    for module in adapted_modules(case, model):
        q, p = model.get_submodule(module).weight.shape
        for key, shape in SHAPES[case.method](case, q, p).items():
            tensors[f"{PREFIX}{module}.{key}"] = normal(shape, SPREAD[key.removesuffix(".weight")], rng)
    for key, value in model.named_parameters():
        if key.startswith("classifier"):
            change = normal(value.shape, 0.3, rng)
            tensors[PREFIX + key] = value.detach() + change + 0.2 * change.sign()
    return tensors


def leaves(tensors):
    return {k: v.double().requires_grad_() for k, v in tensors.items()}


def check_case(case, stored, batch, logits):
    require_moved(f"{case.name}: the adapter", logits, logits_of(load_base(case.base), batch))
    for key, value in stored.items():
        if key.endswith(("lora_B.weight", "lora_E")):
            off = Patched(case, leaves({**stored, key: torch.zeros_like(value)}))(batch)
            require_moved(f"{case.name}: {key}", logits, off.detach())
    if case.method == "moslora":
        without = {k: torch.eye(case.r) if "lora_AB" in k else v for k, v in stored.items()}
        require_moved(f"{case.name}: the mixer", logits, Patched(case, leaves(without))(batch).detach())


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
    patched = Patched(case, leaves(stored))
    batches = [make_batch(patched.model.config, f"{case.name} batch {i}", lengths)
               for i, lengths in enumerate(([12, 9, 5, 7], [6, 10, 10, 8]))]
    logits64 = patched(batches[0]).detach()
    check_case(case, stored, batches[0], logits64)

    single = {k: v.float() for k, v in patched.frozen.items()}
    for module in patched.modules:
        part = {k: stored[f"{PREFIX}{module}.{k}"] for k in SHAPES[case.method](case, 1, 1)}
        single[f"{module}.weight"] = single[f"{module}.weight"] + DELTA[case.method](case, part)
    single |= {k: stored[PREFIX + k] for k in single if k.startswith("classifier")}
    with torch.no_grad():
        logits = functional_call(load_base(case.base), single, kwargs=inputs_of(batches[0])).logits
    require_equal(f"{case.name} float64", logits, logits64)

    record = {**batches[0], **{f"batch1.{k}": v for k, v in batches[1].items()}, "logits": logits,
              "logits64": logits64, "task_loss64": task_loss(logits64, batches[0]["labels"]).reshape(1),
              "penalty64": patched.penalty().detach().reshape(1)}
    if case.method == "lora2":
        record |= regulariser_record(patched)
        record |= importance_record(case, patched, batches)
    record |= training_record(patched.trained, patched.loss, batches)
    save_tensors(folder / "adapter_model.safetensors", stored, __file__, case.name)
    save_tensors(folder / "io.safetensors", record, __file__, case.name)
    options = {"r": case.r, "lora_alpha": case.alpha}
    if case.method == "lora2":
        options |= {"k": case.k, "orth_reg_weight": case.penalty_weight}
    save_json(folder / "case.json", {
        "name": case.name, "base": case.base, "method": case.method, "options": options,
        "target_modules": case.targets, "modules": patched.modules,
        "modules_to_save": ["classifier"], "trained": sorted(patched.trained), "rounding_only": [],
        "optimizer": OPTIMIZER, "provenance": provenance(__file__, case.name)})


def main():
    shutil.rmtree(DENSE, ignore_errors=True)
    for case in CASES:
        write_case(case)
        print(f"  {case.name}")


if __name__ == "__main__":
    main()
