"""Writes tests/golden/adapters: adapters saved by PEFT, their logits, gradients and ten AdamW steps."""
from common import (GOLDEN, OPTIMIZER, Widened, generator, is_causal, load_base, logits_of, make_batch, model_loss,
                    normal, provenance, require_equal, require_moved, rounding_only, save_json, save_tensors, task_loss,
                    seed_of, stored_name, training_record, widen)

import json
import shutil
import sys
import tempfile
import warnings
from contextlib import nullcontext
from pathlib import Path

import torch
from adapter_cases import FAMILIES, layers
from causal_cases import FAMILIES as CAUSAL_FAMILIES
from encoder_adapter_cases import FAMILIES as ENCODER_FAMILIES
from encoder_cases import LONG_TYPES
from make_starts import Start, start_model
from vision_adapter_cases import FAMILIES as VISION_FAMILIES
from peft import PeftModel, get_peft_model, get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file, save_file

ADAPTERS = GOLDEN / "adapters"
TARGETING = ["target_modules", "exclude_modules", "layers_to_transform", "layers_pattern", "modules_to_save",
             "feedforward_modules", "rank_pattern", "alpha_pattern"]
warnings.filterwarnings("ignore")


# ---- tensors

SPREAD = {"lora_A": 0.3, "lora_B": 0.3, "magnitude": 0.3, "lora_E": 1.0, "vera_lambda": 0.8,
          "lambda": 0.2, "gamma": 0.2, "ia3": 0.4, "lora_embedding": 0.4, "hada": 0.5, "lokr": 0.5, "oft_R": 0.25,
          "prompt_embeddings": 1.0}


def trained_by_key(model):
    """The trained parameters under the names they have in the adapter file.

    With bias="all", PEFT also writes the classifier's bias under the names of its wrapper's parts; those are left out.
    """
    state = get_peft_model_state_dict(model, save_embedding_layers=False).items()
    keys = {v.data_ptr(): k for k, v in sorted(state, key=lambda named: "embed_tokens" in named[0])  # of tied ones
            if v.numel() and ".modules_to_save." not in k and ".original_module." not in k}
    for prompt in getattr(model, "prompt_encoder", {}).values():
        keys[prompt.embedding.weight.data_ptr()] = "prompt_embeddings"
    return {keys[p.data_ptr()]: p for _, p in model.named_parameters() if p.requires_grad and p.numel()}


def base_of(case, name=None):
    """The base, its vocabulary as large as the case wants it. The new rows are drawn by the name."""
    model = load_base(case.base)
    if case.new_tokens:
        torch.manual_seed(seed_of(name or case.name))
        model.resize_token_embeddings(model.config.vocab_size + case.new_tokens)
    return model.eval()


def batches_of(config, case):
    lengths = ([10, 7, 4], [6, 9]) if is_causal(config) else ([12, 9, 5, 7], [6, 10, 10, 8])
    if config.model_type in LONG_TYPES:
        lengths = ([20, 13, 5, 17], [6, 15, 10, 18])
    return [make_batch(config, f"{case.name} batch {i}", rows) for i, rows in enumerate(lengths)]


def shared_bases(model, case):
    kind = case.config.peft_type.value.lower()
    return {f"{kind}_{part}": getattr(model.base_model, f"{kind}_{part}")["default"] for part in "AB"}


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
            elif case.from_start:
                value.add_(normal(value.shape, std, rng))
            else:
                value.copy_(normal(value.shape, std, rng))
        if case.foreign_bases:
            for bases in shared_bases(model, case).values():
                bases.copy_(normal(bases.shape, 1.0, rng))


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
    torch.manual_seed(seed_of(case.name))
    if case.calibration:
        model, _ = start_model(Start(case.name, case.base, case.config, case.calibration))
    else:
        model = get_peft_model(base_of(case), case.config).eval()
    start = start_record(model) if case.lowers_base else {}
    # Where the start changed the base and cannot be made again, PEFT writes what training added to it.
    scratch = tempfile.TemporaryDirectory()
    initial = Path(scratch.name) / "initial" if case.converted else None
    if initial:
        model.save_pretrained(initial)
    fill(model, case)
    if case.prune:
        prune(model, case)
    before = logits_of(model, batches_of(model.config, case)[0])
    model.save_pretrained(folder, save_embedding_layers=case.embeddings,
                          path_initial_model_for_weight_conversion=initial)
    (folder / "README.md").unlink(missing_ok=True)
    if case.bases == "model level only":
        path = folder / "adapter_model.safetensors"
        kept = {k: v for k, v in load_file(path).items()
                if ".randlora_A" not in k and ".randlora_B" not in k or k.startswith("base_model.randlora_")}
        save_file(kept, path, metadata={"format": "pt"})
    return before, start


def start_record(model):
    """What PEFT starts from where it lowers the base: A and B, and the weights of the layers without their product."""
    record = {f"start.{k}": v.detach().clone() for k, v in trained_by_key(model).items() if "lora_" in k}
    for name, layer in layers(model):
        record[f"lowered.{name.removeprefix('base_model.model.')}.weight"] = layer.base_layer.weight.detach().clone()
    return record


def load_adapter(case, folder):
    """PEFT loads prompts for inference only: their tensors are set to train here."""
    trainable = not case.config.is_prompt_learning
    base = base_of(case, case.name + " again")  # with other rows: the file's must take their place
    model = PeftModel.from_pretrained(base, folder, is_trainable=trainable).eval()
    if not trainable:
        for name, value in model.named_parameters():
            value.requires_grad_("prompt_encoder" in name or "modules_to_save" in name)
    return model


# ---- proofs that a case shows what it is about

def neutral(key, value, base):
    """The value with which this tensor does nothing, or None where that cannot be said of it alone."""
    if any(part in key for part in ("lora_B", "lora_E", "lambda", "lora_embedding", "hada", "lokr", "oft_R", "prompt")):
        return torch.zeros_like(value)
    if "ia3" in key:
        return torch.ones_like(value)
    name = key.removeprefix("base_model.").removeprefix("model.").replace(".base_layer.", ".")
    return base[name] if name in base else None


def check_parts(case, folder):
    found = {k.split(".")[-1] for k in load_file(folder / "adapter_model.safetensors") if ".classifier." not in k}
    assert not case.parts or found == set(case.parts.split()), f"{case.name}: the file holds {sorted(found)}"


def check_case(case, folder, batch, logits):
    check_parts(case, folder)
    plain = base_of(case)
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
        return model_loss(model, batch)
    return loss_of


def keep_stored_names(folder, model):
    """The adapter under the names that checkpoints have; what PEFT wrote, as it is, in a folder of its own."""
    kind = model.config.model_type
    if stored_name(kind, ".q_proj") == ".q_proj":
        return
    kept = folder / "transformers5"
    kept.mkdir()
    for path in folder.glob("adapter_*"):
        path.rename(kept / path.name)
    tensors = {stored_name(kind, k): v for k, v in load_file(kept / "adapter_model.safetensors").items()}
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = json.loads((kept / "adapter_config.json").read_text())
    adapted = {n.removeprefix("base_model.model."): m for n, m in model.named_modules() if isinstance(m, BaseTunerLayer)}
    config["target_modules"] = sorted(stored_name(kind, n) for n in adapted)
    if config.get("feedforward_modules"):
        config["feedforward_modules"] = sorted(stored_name(kind, n) for n, m in adapted.items() if m.is_feedforward)
    save_json(folder / "adapter_config.json", config)


def write_case(case):
    folder = ADAPTERS / case.name
    shutil.rmtree(folder, ignore_errors=True)
    written_config = json.loads(json.dumps(case.config.to_dict(), default=sorted))
    before, start = save_adapter(case, folder)
    model = load_adapter(case, folder)
    batches = batches_of(model.config, case)
    logits = logits_of(model, batches[0])
    require_equal(f"{case.name} reloaded", before, logits, at_most=0.05)  # pruned rows are gone: rounding only
    check_case(case, folder, batches[0], logits)

    tensors = {**batches[0], **{f"batch1.{k}": v for k, v in batches[1].items()}, "logits": logits, **start}
    if case.config.peft_type in ("RANDLORA", "VERA"):
        tensors |= {f"bases.{part}": bases.float() for part, bases in shared_bases(model, case).items()}
    with nullcontext() if model.config.model_type in ("bert", "roberta") else Widened():
        widen(model)
        tensors["logits64"] = logits_of(model, batches[0])
        require_equal(f"{case.name} float64", logits, tensors["logits64"])
        task = task_loss(tensors["logits64"], batches[0], shifted=is_causal(model.config))
        trained = {stored_name(model.config.model_type, k): v for k, v in trained_by_key(model).items()}
        record = training_record(trained, loss_function(model), batches)
    tensors |= record
    tensors["task_loss64"] = task.reshape(1)
    tensors["penalty64"] = record["loss64"] - task
    if case.config.peft_type == "ADALORA":
        assert tensors["penalty64"].item() > 0.01
    else:
        assert abs(tensors["penalty64"].item()) < 1e-12
        tensors["penalty64"] = torch.zeros(1, dtype=torch.float64)
    keep_stored_names(folder, model)
    save_tensors(folder / "io.safetensors", tensors, __file__, case.name)
    save_json(folder / "case.json", {
        "name": case.name, "base": case.base, "peft_type": str(case.config.peft_type.value), "shows": case.shows,
        "given_config": {k: written_config[k] for k in TARGETING if k in written_config},
        "bases": case.bases if case.config.peft_type == "RANDLORA" else None,
        "trained": sorted(trained),
        "rounding_only": rounding_only({k: record[f"grad.{k}"] for k in trained}),
        "optimizer": OPTIMIZER, "provenance": provenance(__file__, case.name)})


def main():
    only = sys.argv[1:]
    if not only:
        shutil.rmtree(ADAPTERS, ignore_errors=True)
    for family in [*FAMILIES, *CAUSAL_FAMILIES, *ENCODER_FAMILIES, *VISION_FAMILIES]:
        for case in family():
            if not only or case.name in only:
                write_case(case)
                print(f"  {case.name}", flush=True)


if __name__ == "__main__":
    main()
