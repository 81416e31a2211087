"""Writes tests/golden/adapters: adapters saved by PEFT, their logits, gradients and ten AdamW steps."""
from common import (GOLDEN, OPTIMIZER, generator, inputs_of, labels_for, load_base, logits_of, make_batch, normal,
                    provenance, require_equal, require_moved, rounding_only, save_json, save_tensors, task_loss,
                    training_record)

import json
import shutil
import warnings
from dataclasses import dataclass, field

import torch
from peft import (AdaLoraConfig, IA3Config, LoraConfig, PeftConfig, PeftModel, RandLoraConfig, get_peft_model,
                  get_peft_model_state_dict)
from safetensors.torch import load_file, save_file

ADAPTERS = GOLDEN / "adapters"
SIX = ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"]
KEEP = {"task_type": "SEQ_CLS"}
TARGETING = ["target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "modules_to_save",
             "feedforward_modules", "rank_pattern", "alpha_pattern"]
warnings.filterwarnings("ignore")


@dataclass
class Case:
    name: str
    base: str
    config: PeftConfig
    shows: str                                   # the feature this case is about
    off: list = field(default_factory=list)      # (what, function on the loaded model): must move the logits
    spread: dict = field(default_factory=dict)   # standard deviations other than the defaults below
    prune: bool = False
    foreign_bases: bool = False                  # stored bases that no key gives
    bases: str = "as PEFT writes them"           # or "model level only"


# ---- what a case changes in the loaded model to switch its feature off

def layers(model):
    return [(n, m) for n, m in model.named_modules() if hasattr(m, "base_layer") and hasattr(m, "scaling")]


def scale_as(rule):
    def change(model):
        for _, layer in layers(model):
            layer.scaling["default"] = rule(layer)
    return change


def plain_lora(model):
    for _, layer in layers(model):
        layer.use_dora["default"] = False
        layer.lora_variant.clear()


def gain_on_bias(model):
    """DoRA's magnitude on the bias too: what a reader that scales the whole output would compute."""
    for _, layer in layers(model):
        bias = layer.base_layer.bias
        norm = layer.base_layer.weight + layer.get_delta_weight("default").detach()
        gain = layer.lora_magnitude_vector["default"].weight / norm.norm(dim=1)
        bias.data = bias.data * gain.data


LORA_SCALE = ("alpha/r instead of rsLoRA", scale_as(lambda l: l.lora_alpha["default"] / l.r["default"]))

PATTERNS = {"rank_pattern": {"query": 2, "^roberta.encoder.layer.0.output.dense": 6, "layer.1.attention.self.value": 5},
            "alpha_pattern": {"value": 3, "^roberta.encoder.layer.1.intermediate.dense": 20}}


def lora_cases():
    def lora(**options):
        return LoraConfig(**{**KEEP, "r": 4, "lora_alpha": 8, **options})

    yield Case("lora_default", "bert_cls", lora(), "default targets (query, value)")
    yield Case("lora_r1", "bert_reg", lora(r=1, lora_alpha=3, target_modules=SIX), "rank 1, six linears, regression")
    yield Case("lora_all_linear", "bert_cls", lora(r=2, lora_alpha=5, target_modules="all-linear"),
               "all-linear: the pooler too, the classifier not")
    yield Case("lora_all_linear_roberta", "roberta_cls", lora(r=2, lora_alpha=4, target_modules="all-linear"),
               "all-linear where the head has linears of its own")
    yield Case("lora_regex", "bert_cls", lora(r=3, target_modules=r".*\.layer\.1\.attention\.self\.(query|key)"),
               "one regular expression")
    yield Case("lora_patterns", "roberta_cls",
               lora(target_modules=["query", "key", "value", "dense"], exclude_modules=["classifier.dense"],
                    **PATTERNS), "rank_pattern and alpha_pattern",
               [("one alpha for all", scale_as(lambda l: 8 / l.r["default"])),
                ("alpha over the common rank", scale_as(lambda l: l.lora_alpha["default"] / 4))])
    yield Case("lora_rslora", "roberta_reg", lora(use_rslora=True, target_modules=SIX), "alpha/sqrt(r)", [LORA_SCALE])
    yield Case("lora_modules_to_save", "bert_cls", lora(modules_to_save=["classifier", "pooler"]),
               "two whole modules trained and stored")
    yield Case("lora_no_task", "bert_cls", LoraConfig(r=4, lora_alpha=8, target_modules=["key", "value"]),
               "no task type: the classifier stays frozen", spread={"lora_A": 0.2, "lora_B": 0.2})
    yield Case("lora_bias_all", "bert_cls", lora(bias="all", target_modules=["query", "value"]), "every bias trained")
    yield Case("lora_bias_lora_only", "roberta_cls", lora(bias="lora_only", target_modules=["value", "output.dense"]),
               "biases of the adapted layers trained")
    yield Case("lora_layers_to_transform", "bert_cls", lora(layers_to_transform=[1], target_modules=SIX),
               "one layer of two")
    yield Case("lora_layers_pattern", "roberta_cls",
               lora(layers_to_transform=0, layers_pattern="layer", target_modules=["query", "dense"]),
               "one layer of two, by pattern")
    yield Case("lora_exclude", "bert_cls", lora(target_modules=["dense"], exclude_modules=r".*(pooler|layer\.0).*"),
               "exclude_modules")
    yield Case("dora_bert", "bert_cls", lora(use_dora=True, target_modules=SIX), "DoRA",
               [("no DoRA", plain_lora), ("gain on the bias", gain_on_bias)])
    yield Case("dora_roberta_rslora", "roberta_reg", lora(r=3, use_dora=True, use_rslora=True), "DoRA with rsLoRA",
               [("no DoRA", plain_lora), LORA_SCALE])


def randlora_cases():
    def randlora(**options):
        return RandLoraConfig(**{**KEEP, "r": 4, "randlora_alpha": 8, **options})

    yield Case("randlora_default", "bert_cls", RandLoraConfig(**KEEP, target_modules=["query", "value"]),
               "r 32 above the width, alpha 640", spread={"lambda": 0.05, "gamma": 0.05})
    yield Case("randlora_square", "bert_cls", randlora(target_modules=["query", "value"]),
               "n r equals the width; stored bases differ from the ones that the key gives", foreign_bases=True)
    yield Case("randlora_overshoot", "roberta_cls", randlora(r=5, randlora_alpha=12, target_modules=["query", "key"]),
               "r does not divide the width")
    yield Case("randlora_wide", "bert_cls", randlora(r=6, target_modules=["intermediate.dense"]), "d_in < d_out")
    yield Case("randlora_tall", "bert_reg", randlora(r=5, target_modules=r".*layer\.\d+\.output\.dense"),
               "d_in > d_out")
    yield Case("randlora_all", "bert_cls", randlora(r=6, target_modules=SIX),
               "shared bases larger than any layer needs, written once per layer")
    yield Case("randlora_model_level", "bert_cls", randlora(r=6, target_modules=SIX), "bases at model level only",
               bases="model level only")
    yield Case("randlora_regenerated", "roberta_reg",
               randlora(r=6, target_modules=SIX, save_projection=False, projection_prng_key=7),
               "no bases in the file: drawn from the key")
    yield Case("randlora_sparse", "bert_cls", randlora(target_modules=SIX, sparse=True, save_projection=False),
               "ternary bases, drawn from the key")
    yield Case("randlora_very_sparse", "roberta_cls",
               randlora(r=8, target_modules=["value", "output.dense"], very_sparse=True, save_projection=False),
               "very sparse ternary bases, drawn from the key")


def adalora_cases():
    def adalora(**options):
        return AdaLoraConfig(**{**KEEP, "init_r": 5, "target_r": 2, "lora_alpha": 7, "total_step": 12, "tinit": 1,
                                "tfinal": 2, "deltaT": 1, **options})

    by_r = ("scale by the kept rank", lambda model: [
        layer.ranknum["default"].data.fill_(max(1, layer.lora_A["default"].shape[0])) for _, layer in layers(model)])
    yield Case("adalora_unpruned", "bert_cls", adalora(target_modules=["query", "value", "output.dense"]),
               "every component kept")
    yield Case("adalora_pruned", "roberta_cls", adalora(target_modules=SIX, orth_reg_weight=0.3),
               "rank_pattern as PEFT's allocator wrote it, one layer of rank 0", [by_r], prune=True)
    yield Case("adalora_pruned_reg", "bert_reg", adalora(init_r=6, lora_alpha=16, orth_reg_weight=0.1),
               "pruned, default targets", [by_r], prune=True)


def ia3_cases():
    yield Case("ia3_default", "bert_cls", IA3Config(**KEEP), "key, value and the second feed-forward layer (its input)")
    yield Case("ia3_roberta", "roberta_reg",
               IA3Config(**KEEP, target_modules=["key", "value", "intermediate.dense"], feedforward_modules=[]),
               "outputs scaled only, bias included")


# ---- tensors

SPREAD = {"lora_A": 0.3, "lora_B": 0.3, "magnitude": 0.3, "lora_E": 1.0, "lambda": 0.2, "gamma": 0.2, "ia3": 0.4}


def trained_by_key(model):
    """The trained parameters under the names they have in the adapter file.

    With bias="all", PEFT also writes the classifier's bias under the names of its wrapper's parts; those are left out.
    """
    keys = {v.data_ptr(): k for k, v in get_peft_model_state_dict(model, save_embedding_layers=False).items()
            if v.numel() and ".modules_to_save." not in k and ".original_module." not in k}
    return {keys[p.data_ptr()]: p for _, p in model.named_parameters() if p.requires_grad and p.numel()}


def fill(model, case):
    rng = generator(case.name)
    spread = {**SPREAD, **case.spread}
    with torch.no_grad():
        for key, value in sorted(trained_by_key(model).items()):
            std = next((s for part, s in spread.items() if part in key), None)
            if std is None:  # a bias or a whole module: start from the base's own values
                change = normal(value.shape, 0.3, rng)
                value.add_(change + 0.2 * change.sign())
            elif "magnitude" in key or "ia3" in key:
                value.mul_(normal(value.shape, std, rng, mean=1.0))
            else:
                value.copy_(normal(value.shape, std, rng))
        if case.foreign_bases:
            for bases in (model.base_model.randlora_A, model.base_model.randlora_B):
                bases["default"].copy_(normal(bases["default"].shape, 1.0, rng))


def prune(model, case):
    """Lets PEFT's allocator cut components by invented gradients; the first layer's are small, so it loses all."""
    rng = generator(case.name + " gradients")
    named = dict(model.base_model.model.named_parameters())
    adapters = {n: p for n, p in named.items() if "lora_" in n}
    first = sorted(n for n in adapters if "lora_A" in n)[0].replace("lora_A", "%s")
    for step in range(1, 12):
        for name, value in adapters.items():
            small = name in (first % part for part in ("lora_A", "lora_B", "lora_E"))
            value.grad = normal(value.shape, 1e-3 if small else 1.0, rng)
        kept = {n: p.detach().clone() for n, p in adapters.items()}
        model.base_model.update_and_allocate(step)
        if step < 10:  # pruning is final only in the last phase
            for name, value in adapters.items():
                value.data = kept[name]
    ranks = {n: sum(mask) for n, mask in model.peft_config["default"].rank_pattern.items()}
    assert 0 in ranks.values() and len(set(ranks.values())) > 2, ranks
    for value in adapters.values():
        value.grad = None


def save_adapter(case, folder):
    model = get_peft_model(load_base(case.base), case.config).eval()
    fill(model, case)
    if case.prune:
        prune(model, case)
    before = logits_of(model, make_batch(model.config, case.name + " batch 0"))
    model.save_pretrained(folder, save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    if case.bases == "model level only":
        path = folder / "adapter_model.safetensors"
        kept = {k: v for k, v in load_file(path).items()
                if ".randlora_A" not in k and ".randlora_B" not in k or k.startswith("base_model.randlora_")}
        save_file(kept, path, metadata={"format": "pt"})
    return before


def load_adapter(case, folder):
    return PeftModel.from_pretrained(load_base(case.base), folder, is_trainable=True).eval()


# ---- proofs that a case shows what it is about

def neutral(key, value, base):
    """The value with which this tensor does nothing, or None where that cannot be said of it alone."""
    if "lora_B" in key or "lora_E" in key or "lambda" in key:
        return torch.zeros_like(value)
    if "ia3" in key:
        return torch.ones_like(value)
    name = key.removeprefix("base_model.model.").replace(".base_layer.", ".")
    return base[name] if name in base else None


def check_case(case, folder, batch, logits):
    plain = load_base(case.base)
    require_moved(f"{case.name}: the adapter", logits, logits_of(plain, batch))
    base = dict(plain.named_parameters())
    model = load_adapter(case, folder)
    for key, value in trained_by_key(model).items():
        off = neutral(key, value, base)
        if off is None or key.endswith("key.bias") or key.endswith("key.base_layer.bias"):
            continue  # softmax does not see the bias of a key
        kept, value.data = value.data, off.data
        require_moved(f"{case.name}: {key}", logits, logits_of(model, batch))
        value.data = kept
    for what, change in case.off:
        model = load_adapter(case, folder)
        change(model)
        require_moved(f"{case.name}: {what}", logits, logits_of(model, batch))


def loss_function(model):
    def loss_of(batch):
        return model(**inputs_of(batch), labels=labels_for(batch, torch.float64)).loss
    return loss_of


def write_case(case):
    folder = ADAPTERS / case.name
    written_config = json.loads(json.dumps(case.config.to_dict(), default=sorted))
    before = save_adapter(case, folder)
    model = load_adapter(case, folder)
    batches = [make_batch(model.config, f"{case.name} batch {i}", lengths)
               for i, lengths in enumerate(([12, 9, 5, 7], [6, 10, 10, 8]))]
    logits = logits_of(model, batches[0])
    require_equal(f"{case.name} reloaded", before, logits, at_most=0.05)  # pruned rows are gone: rounding only
    check_case(case, folder, batches[0], logits)

    tensors = {**batches[0], **{f"batch1.{k}": v for k, v in batches[1].items()}, "logits": logits}
    if case.config.peft_type == "RANDLORA":
        for part in ("randlora_A", "randlora_B"):
            tensors[f"bases.{part}"] = getattr(model.base_model, part)["default"].float()
    model.double()
    tensors["logits64"] = logits_of(model, batches[0])
    require_equal(f"{case.name} float64", logits, tensors["logits64"])
    task = task_loss(tensors["logits64"], batches[0]["labels"])
    trained = trained_by_key(model)
    record = training_record(trained, loss_function(model), batches)
    tensors |= record
    tensors["task_loss64"] = task.reshape(1)
    tensors["penalty64"] = record["loss64"] - task
    if case.config.peft_type == "ADALORA":
        assert tensors["penalty64"].item() > 0.01
    else:
        assert abs(tensors["penalty64"].item()) < 1e-12
        tensors["penalty64"] = torch.zeros(1, dtype=torch.float64)
    save_tensors(folder / "io.safetensors", tensors, __file__, case.name)
    save_json(folder / "case.json", {
        "name": case.name, "base": case.base, "peft_type": str(case.config.peft_type.value), "shows": case.shows,
        "given_config": {k: written_config[k] for k in TARGETING if k in written_config},
        "bases": case.bases if case.config.peft_type == "RANDLORA" else None,
        "trained": sorted(trained),
        "rounding_only": rounding_only({k: record[f"grad.{k}"] for k in trained}),
        "optimizer": OPTIMIZER, "provenance": provenance(__file__, case.name)})


def main():
    shutil.rmtree(ADAPTERS, ignore_errors=True)
    for family in (lora_cases, randlora_cases, adalora_cases, ia3_cases):
        for case in family():
            write_case(case)
            print(f"  {case.name}")


if __name__ == "__main__":
    main()
