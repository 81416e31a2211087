"""Writes the decoders of tests/golden/models: tiny checkpoints of every causal family, and what transformers makes of
them: logits, the loss, padding on the left, packed documents and greedy text.
"""
from common import (MODELS, Widened, generator, inputs_of, labels_for, load_base, logits_of, make_batch, randomise,
                    require_equal, require_moved, save_json, save_tensors, seed_of, task_loss, tolerance, widen)

import json
import shutil
import sys
from dataclasses import dataclass, field

import torch
from safetensors.torch import load_file, save_file
from transformers import (AutoModelForCausalLM, GenerationConfig, Gemma2Config, GPT2Config, GPT2Model, LlamaConfig,
                          LlamaModel, MistralConfig, Phi3Config, Qwen2Config, Qwen3Config)

ROWS, LEFT, DOCUMENTS = [10, 7, 4], [10, 6], [5, 4, 3]
PROMPT, NEW_TOKENS = 4, 12
TOKENS = {"vocab_size": 61, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": None}
SHAPE = {**TOKENS, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
         "num_key_value_heads": 1, "max_position_embeddings": 64}
PLAIN = {"rope_type": "default", "rope_theta": 100.0}


def rope(kind, **values):
    return {"rope_type": kind, "rope_theta": 100.0, **values}


@dataclass
class Decoder:
    name: str
    config: object
    shows: list = field(default_factory=list)  # changes of config.json that must move the logits
    kind: type = None                          # the class that is saved; default: the one with a head
    legacy: bool = False                       # config.json as older releases wrote it
    extra: callable = None                     # tensors to add to the checkpoint, from those in it
    prompt: int = PROMPT
    new_tokens: int = NEW_TOKENS


# ---- what checkpoints on the hub hold besides

def old_frequencies(tensors):
    """The rotary frequencies that early Llama checkpoints store; nothing reads them."""
    return {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.ones(4) for i in range(2)}


def causal_masks(tensors):
    """The masks that GPT-2's checkpoints store; nothing reads them."""
    mask = torch.ones(32, 32).tril().view(1, 1, 32, 32)
    return {name: mask.clone() for i in range(2) for name in (f"h.{i}.attn.bias",)}


def head_beside(tensors):
    """A tied head that is stored all the same."""
    return {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}


# ---- the checkpoints

def llama(**changes):
    return LlamaConfig(**{**SHAPE, "rope_parameters": PLAIN, "rms_norm_eps": 1e-5, **changes})


def llamas():
    mha = {"num_attention_heads": 4, "num_key_value_heads": 4}
    yield Decoder("llama_heads", llama(**mha), [{"rope_parameters": rope("default", rope_theta=10.0)}])
    yield Decoder("llama_tied", llama(num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=True),
                  [{"tie_word_embeddings": False}], legacy=True)
    yield Decoder("llama_biases", llama(attention_bias=True, mlp_bias=True),
                  [{"attention_bias": False}, {"mlp_bias": False}])
    yield Decoder("llama_linear", llama(rope_parameters=rope("linear", factor=4.0)), [{"rope_parameters": PLAIN}],
                  legacy=True, extra=old_frequencies)
    # The scaling begins behind the maximum: the greedy text ends there, for each token read later would turn the
    # keys that follow it by other angles than those before.
    yield Decoder("llama_dynamic", llama(max_position_embeddings=8, rope_parameters=rope("dynamic", factor=2.0)),
                  [{"rope_parameters": PLAIN}, {"max_position_embeddings": 9}], new_tokens=8 - PROMPT)
    yarn = rope("yarn", factor=4.0, original_max_position_embeddings=16, beta_fast=4.0, beta_slow=0.1)
    yield Decoder("llama_yarn", llama(rope_parameters=yarn),
                  [{"rope_parameters": PLAIN}, {"rope_parameters": {**yarn, "attention_factor": 1.0}},
                   {"rope_parameters": {**yarn, "beta_slow": 1.0}}, {"rope_parameters": {**yarn, "beta_fast": 0.3}}])
    bands = rope("llama3", factor=8.0, original_max_position_embeddings=32, low_freq_factor=1.0, high_freq_factor=4.0)
    yield Decoder("llama_llama3", llama(tie_word_embeddings=True, rope_parameters=bands),
                  [{"rope_parameters": PLAIN}, {"rope_parameters": {**bands, "high_freq_factor": 1.5}},
                   {"rope_parameters": {**bands, "low_freq_factor": 2.0}}], legacy=True)
    yield Decoder("llama_head_dim", llama(head_dim=12, rms_norm_eps=0.05), [{"rms_norm_eps": 1e-6}])
    yield Decoder("llama_bare", llama(num_hidden_layers=3, tie_word_embeddings=True),
                  [{"tie_word_embeddings": False}], kind=LlamaModel)


def mistrals():
    config = MistralConfig(**SHAPE, rope_parameters=PLAIN, sliding_window=4)
    yield Decoder("mistral_window", config, [{"sliding_window": None}, {"sliding_window": 5}])
    yield Decoder("mistral_full", MistralConfig(**{**SHAPE, "head_dim": 12}, rope_parameters=PLAIN,
                                                sliding_window=None), [{"sliding_window": 4}], legacy=True)


def qwens():
    window = {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1}
    types = [{"layer_types": ["full_attention"] * 2}, {"layer_types": ["sliding_attention"] * 2}]
    yield Decoder("qwen2_window", Qwen2Config(**SHAPE, rope_parameters=PLAIN, **window), types)
    yield Decoder("qwen2_tied", Qwen2Config(**SHAPE, rope_parameters=PLAIN, tie_word_embeddings=True,
                                            max_window_layers=2, sliding_window=3), [{"tie_word_embeddings": False}],
                  legacy=True)
    yield Decoder("qwen3_tied", Qwen3Config(**SHAPE, rope_parameters=PLAIN, head_dim=12, tie_word_embeddings=True),
                  [{"rms_norm_eps": 0.1}], extra=head_beside)
    yarn = rope("yarn", factor=4.0, original_max_position_embeddings=16, beta_fast=3.0, beta_slow=0.15, mscale=2.0,
                mscale_all_dim=0.5, truncate=False)
    yield Decoder("qwen3_yarn", Qwen3Config(**SHAPE, rope_parameters=yarn, head_dim=8, attention_bias=True, **window),
                  [*types, {"attention_bias": False}, {"rope_parameters": {**yarn, "truncate": True}},
                   {"rope_parameters": {**yarn, "mscale": 0.5}}])


def phis():
    def phi(**changes):
        return Phi3Config(**{**SHAPE, "rope_parameters": PLAIN, **changes})

    factors = rope("longrope", short_factor=[1.5, 1.2], long_factor=[4.0, 2.0], partial_rotary_factor=0.5)
    other = {"rope_parameters": {**factors, "short_factor": factors["long_factor"]}}
    yield Decoder("phi3_short", phi(rope_parameters=factors, original_max_position_embeddings=40),
                  [other, {"original_max_position_embeddings": 32}], legacy=True)
    # Every row whose greedy text is asked for is longer than the original maximum from the beginning.
    yield Decoder("phi3_long", phi(rope_parameters=factors, original_max_position_embeddings=8),
                  [{"rope_parameters": {**factors, "long_factor": factors["short_factor"]}},
                   {"original_max_position_embeddings": 40}], prompt=9)
    yield Decoder("phi3_window", phi(sliding_window=4), [{"sliding_window": None}])


def gemmas():
    config = Gemma2Config(**SHAPE, rope_parameters=PLAIN, head_dim=12, query_pre_attn_scalar=5, sliding_window=4,
                          attn_logit_softcapping=3.0, final_logit_softcapping=10.0)
    yield Decoder("gemma2", config, [{"attn_logit_softcapping": None}, {"final_logit_softcapping": None},
                                     {"query_pre_attn_scalar": 12}, {"sliding_window": 64},
                                     {"layer_types": ["full_attention", "sliding_attention"]}])
    yield Decoder("gemma2_uncapped", Gemma2Config(**SHAPE, rope_parameters=PLAIN, head_dim=8, sliding_window=64,
                                                  query_pre_attn_scalar=8, attn_logit_softcapping=None,
                                                  final_logit_softcapping=None),
                  [{"attn_logit_softcapping": 3.0}], legacy=True)


def gpts():
    shape = {**TOKENS, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 32, "resid_pdrop": 0.0,
             "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    yield Decoder("gpt2", GPT2Config(**shape), [{"layer_norm_epsilon": 0.05}])
    yield Decoder("gpt2_scaled", GPT2Config(**shape, n_inner=24, scale_attn_by_inverse_layer_idx=True,
                                            layer_norm_epsilon=0.02),
                  [{"scale_attn_by_inverse_layer_idx": False}, {"scale_attn_weights": False},
                   {"layer_norm_epsilon": 1e-5}])
    yield Decoder("gpt2_bare", GPT2Config(**shape), kind=GPT2Model, extra=causal_masks)


FAMILIES = [llamas, mistrals, qwens, phis, gemmas, gpts]


# ---- writing them

def to_legacy(config):
    """rope_theta and rope_scaling apart, with the former's `type`; torch_dtype; no list of layer types."""
    rest = dict(config.pop("rope_parameters"))
    config["rope_theta"] = rest.pop("rope_theta")
    kind = rest.pop("rope_type")
    if "partial_rotary_factor" in rest:
        config["partial_rotary_factor"] = rest.pop("partial_rotary_factor")
    if config["model_type"] == "phi3":
        rest.pop("original_max_position_embeddings", None)  # it stands beside
    key = "type" if kind in ("linear", "longrope") else "rope_type"
    config["rope_scaling"] = {key: kind, **rest} if kind != "default" else None
    config["torch_dtype"] = config.pop("dtype")
    config.pop("layer_types", None)
    if config["model_type"] == "llama":  # it follows from the others
        del config["head_dim"]
    return config


def save_checkpoint(case):
    folder = MODELS / case.name
    torch.manual_seed(seed_of(case.name))
    model = case.kind(case.config) if case.kind else AutoModelForCausalLM.from_config(case.config)
    randomise(model.float(), case.name).save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    save_json(path, to_legacy(config) if case.legacy else config)
    if case.extra:
        tensors = load_file(folder / "model.safetensors")
        save_file(tensors | case.extra(tensors), folder / "model.safetensors", metadata={"format": "pt"})


def from_the_left(batch, lengths):
    """Rows padded on the left, with the positions that generation gives them."""
    width = max(lengths)
    ids = torch.zeros((len(lengths), width), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        ids[row, width - length:] = batch["input_ids"][row, :length]
        mask[row, width - length:] = 1
    return {"input_ids": ids, "attention_mask": mask, "position_ids": (mask.cumsum(-1) - 1).clamp(min=0)}


def left_case(case, model):
    batch = from_the_left(make_batch(model.config, case.name + " left", LEFT), LEFT)
    logits = logits_of(model, batch)
    counted = torch.arange(max(LEFT)).expand_as(batch["input_ids"])
    if case.name.startswith("gpt2"):  # rotary positions are relative: it does not matter where they start
        require_moved(f"{case.name} positions", logits, logits_of(model, {**batch, "position_ids": counted}))
    del batch["position_ids"]
    return {f"left.{k}": v for k, v in {**batch, "logits": logits}.items()}


def packed_case(case, model):
    """Three documents in one row; their logits are those of each by itself."""
    batch = make_batch(model.config, case.name + " packed", DOCUMENTS)
    rows = [{k: v[i:i + 1, :n] for k, v in batch.items()} for i, n in enumerate(DOCUMENTS)]
    ids = torch.cat([row["input_ids"] for row in rows], 1)
    logits = torch.cat([logits_of(model, row) for row in rows], 1)
    numbers = torch.cat([i * row["attention_mask"] for i, row in enumerate(rows, 1)], 1)
    require_moved(f"{case.name} packing", logits,
                  logits_of(model, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}))
    return {"packed.input_ids": ids, "packed.attention_mask": numbers, "packed.logits": logits}


def greedy_case(case):
    """The first of the prompts whose text is never a close call and does not end in one token at once."""
    settings = GenerationConfig(do_sample=False, max_new_tokens=case.new_tokens, min_new_tokens=case.new_tokens,
                                eos_token_id=None, pad_token_id=0, return_dict_in_generate=True, output_scores=True)
    for attempt in range(100):
        model = load_base(case.name)
        model.generation_config.eos_token_id = None  # min_new_tokens would forbid the model's own
        prompt = make_batch(model.config, f"{case.name} greedy {attempt}", [case.prompt])["input_ids"]
        with torch.no_grad():
            found = model.generate(prompt, attention_mask=torch.ones_like(prompt), generation_config=settings)
        best = torch.stack(found.scores).topk(2, -1).values
        ids = found.sequences[:, case.prompt:]
        clear = (best[..., 0] - best[..., 1]).min().item() >= 100 * tolerance(best)
        if clear and len(set(ids[0].tolist())) > 1:
            return {"greedy_prompt": prompt, "greedy_ids": ids}
    raise AssertionError(f"{case.name}: every greedy text is a close call")


def check_features(case, batch, logits):
    model = load_base(case.name)
    for change in case.shows:
        require_moved(f"{case.name} {change}", logits, logits_of(load_base(case.name, **change), batch))
    for name, value in model.named_parameters():
        kept, value.data = value.data, torch.zeros_like(value)
        require_moved(f"{case.name} {name}", logits, logits_of(model, batch))
        value.data = kept
    turned = {**batch, "input_ids": batch["input_ids"].clone()}
    turned["input_ids"][:, 0] = (turned["input_ids"][:, 0] + 1) % model.config.vocab_size
    require_moved(f"{case.name}: the first token", logits[:, 1:], logits_of(model, turned)[:, 1:])


def write_io(case):
    model = load_base(case.name)
    batch = make_batch(model.config, case.name + " batch", ROWS)
    logits = logits_of(model, batch)
    check_features(case, batch, logits)
    tensors = {**batch, "logits": logits, **left_case(case, model), **packed_case(case, model), **greedy_case(case)}
    double = load_base(case.name)  # here, so that the rotary frequencies are the float32 numbers they always are
    with Widened():
        widen(double)
        tensors["logits64"] = logits_of(double, batch)
        with torch.no_grad():
            loss = double(**inputs_of(batch), labels=labels_for(batch, torch.float64)).loss
    require_equal(f"{case.name} float64", logits, tensors["logits64"])
    assert loss.dtype == torch.float64 and torch.allclose(loss, task_loss(tensors["logits64"], batch))
    tensors["loss64"] = loss.reshape(1)
    save_tensors(MODELS / case.name / "io.safetensors", tensors, __file__, case.name)


def main():
    wanted = sys.argv[1:]  # names; none: all
    for family in FAMILIES:
        for case in family():
            if wanted and case.name not in wanted:
                continue
            shutil.rmtree(MODELS / case.name, ignore_errors=True)
            save_checkpoint(case)
            write_io(case)
            print(f"  {case.name}")


if __name__ == "__main__":
    main()
