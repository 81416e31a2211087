"""Writes tests/golden/foreign: adapters saved by PEFT with keys that training here is stricter with or does not have.

What counts are the logits of PEFT after it has read the adapter again.
"""
from common import (GOLDEN, generator, inputs_of, is_causal, load_base, logits_of, make_batch, normal, provenance,
                    require_moved, save_json, save_tensors, seed_of)

import shutil
import warnings
from dataclasses import dataclass

import torch
from peft import (AdaLoraConfig, LoHaConfig, LoKrConfig, LoraConfig, OFTConfig, PeftConfig, PeftModel,
                  PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig, RandLoraConfig, VeraConfig,
                  get_peft_model)
from safetensors.torch import load_file, save_file

FOREIGN = GOLDEN / "foreign"
ENCODER, CAUSAL = {"task_type": "SEQ_CLS"}, {"task_type": "CAUSAL_LM"}
warnings.filterwarnings("ignore")


@dataclass
class Case:
    name: str
    base: str
    config: PeftConfig
    shows: str
    renamed: tuple = ()  # the end of a tensor's name, and what it is in the file


def lora(task, **options):
    return LoraConfig(**{**task, "r": 3, "lora_alpha": 6, **options})


def lora_cases():
    """Names that match nothing, and what others mean."""
    yield Case("unmatched", "bert_cls",
               lora(ENCODER, target_modules=["query", "no_such_layer"], modules_to_save=["classifier", "no_such_module"],
                    rank_pattern={"no_such_layer": 2, "key": 5}, alpha_pattern={"key": 9}), "names without a module")
    yield Case("all_linear", "bert_cls", lora(ENCODER, target_modules="All-Linear"), "the word in any spelling")
    yield Case("norms", "llama_tied", lora(CAUSAL, modules_to_save=["norm"]),
               "plain endings: norm takes post_attention_layernorm")
    yield Case("head_without_task", "bert_cls", lora({}, target_modules=["query", "classifier"]),
               "no task: the head is a layer as any other")
    yield Case("layers_whole", "llama_tied",
               lora(CAUSAL, target_modules=["q_proj", "model.layers.0.self_attn.v_proj"], layers_to_transform=[1]),
               "whole names stand above layers_to_transform")
    yield Case("bias_all", "roberta_cls", lora(ENCODER, bias="all"), "a head of two layers, stored twice")
    yield Case("alpha_zero", "bert_cls", lora(ENCODER, lora_alpha=0), "alpha 0: the head alone acts")
    yield Case("alpha_negative", "bert_cls", lora(ENCODER, lora_alpha=-5), "alpha below 0")
    yield Case("rank_above_width", "bert_cls", lora(ENCODER, r=24), "r above the layers' width")
    yield Case("dora_in_memory", "bert_cls", lora(ENCODER, use_dora=True), "PEFT's name of the magnitude in memory",
               renamed=(".lora_magnitude_vector", ".lora_magnitude_vector.weight"))


def tied_cases():
    ends = {"embed_tokens": [3, 5, 9], "lm_head": [4, 9]}
    yield Case("tied_rows", "llama_tied", lora(CAUSAL, trainable_token_indices=ends), "rows of a tied head of its own")
    yield Case("tied_wte", "gpt2", lora(CAUSAL, target_modules=["c_attn"], modules_to_save=["wte"],
                                        ensure_weight_tying=True), "wte is tied to nothing")
    for start in ("pissa", "olora", "pissa_niter_4"):
        yield Case(f"{start}_head", "llama_tied", lora(CAUSAL, target_modules=["lm_head"], init_lora_weights=start),
                   "a head's start that lowers the embedding")
    for start in ("pissa", "olora"):
        yield Case(f"{start}_embedding", "llama_tied",
                   lora(CAUSAL, target_modules=["embed_tokens", "q_proj"], init_lora_weights=start),
                   "an embedding has no such start")


def training_cases():
    """Keys that have done their work once an adapter is trained."""
    some = {"target_modules": ["query", "value"]}
    yield Case("loha_dropouts", "bert_cls", LoHaConfig(**ENCODER, **some, r=3, alpha=6, rank_dropout=0.4,
                                                       module_dropout=0.4), "dropouts of LoHa")
    yield Case("lokr_dropouts", "bert_cls",
               LoKrConfig(**ENCODER, **some, r=2, alpha=6, rank_dropout=0.4, module_dropout=0.4,
                          rank_dropout_scale=True, init_weights="lycoris"), "dropouts and a start of LoKr")
    yield Case("oft_dropout", "bert_cls", OFTConfig(**ENCODER, **some, oft_block_size=4, module_dropout=0.4),
               "dropout of OFT")
    yield Case("adalora_unused", "bert_cls",
               AdaLoraConfig(**ENCODER, **some, init_r=3, target_r=2, total_step=9, use_rslora=True,
                             alpha_pattern={"query": 9}), "LoRA's keys that AdaLoRA does not use")
    yield Case("prefix_projection", "llama_tied",
               PrefixTuningConfig(**CAUSAL, num_virtual_tokens=3, prefix_projection=True, encoder_hidden_size=8),
               "a prefix that a network made")
    for kind in ("MLP", "LSTM"):
        yield Case(f"p_tuning_{kind.lower()}", "llama_tied",
                   PromptEncoderConfig(**CAUSAL, num_virtual_tokens=3, encoder_hidden_size=8,
                                       encoder_reparameterization_type=kind), "a prompt that a network made")
    for base, words in (("llama_tied", "embed_tokens"), ("bert_cls", "word_embeddings")):
        task = CAUSAL if words == "embed_tokens" else ENCODER
        yield Case(f"prompt_over_{words}", base,
                   PromptTuningConfig(**task, num_virtual_tokens=3, modules_to_save=[words]),
                   "which word embeddings stand behind the prompt")
    yield Case("vera_layers", "llama_tied", VeraConfig(**CAUSAL, r=4, target_modules=["q_proj"], layers_to_transform=[1]),
               "layers of VeRA")
    yield Case("randlora_layers", "llama_tied", RandLoraConfig(**CAUSAL, r=4, target_modules=["v_proj"], randlora_alpha=8,
                                                               layers_to_transform=1), "layers of RandLoRA")


def fill(model, name):
    """All that trains moves from its start; how far is a matter of the method."""
    rng = generator(name)
    with torch.no_grad():
        for key, value in sorted(model.named_parameters()):
            if value.requires_grad:
                value.add_(normal(value.shape, 0.1 if "oft_R" in key else 0.3, rng))


def rename(folder, old, new):
    path = folder / "adapter_model.safetensors"
    tensors = {k.removesuffix(old) + new if k.endswith(old) else k: v for k, v in load_file(path).items()}
    assert any(k.endswith(new) for k in tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def write_case(case):
    folder = FOREIGN / case.name
    torch.manual_seed(seed_of(case.name))
    model = get_peft_model(load_base(case.base), case.config)
    fill(model, case.name)
    model.eval().save_pretrained(folder)
    (folder / "README.md").unlink()
    base = load_base(case.base)
    batch = inputs_of(make_batch(base.config, case.name, [7, 4] if is_causal(base.config) else [9, 6]))
    plain = logits_of(base, batch)
    again = logits_of(PeftModel.from_pretrained(base, folder).eval(), batch)
    require_moved(f"{case.name}: the adapter", again, plain)
    if case.renamed:
        rename(folder, *case.renamed)
    save_tensors(folder / "io.safetensors", {**batch, "logits": again}, __file__, case.name)
    save_json(folder / "case.json", {"name": case.name, "base": case.base, "shows": case.shows,
                                     "provenance": provenance(__file__, case.name)})


def main():
    shutil.rmtree(FOREIGN, ignore_errors=True)
    for family in (lora_cases, tied_cases, training_cases):
        for case in family():
            write_case(case)
            print(f"  {case.name}")


if __name__ == "__main__":
    main()
