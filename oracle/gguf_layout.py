"""Where each tensor of a GGUF decoder stands in transformers, and what undoes llama.cpp's converter.
"""
import re

import gguf
import numpy as np

LAYER = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
         "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm",
         "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
ENDS = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
LAYERS = {
    "llama": LAYER,
    "qwen2": LAYER,
    "qwen3": {**LAYER, "attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"},
    "phi3": {**LAYER, "attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj"},
    "gemma2": {**LAYER, "post_attention_norm": "post_attention_layernorm", "ffn_norm": "pre_feedforward_layernorm",
               "post_ffw_norm": "post_feedforward_layernorm"},
    "gpt2": {"attn_norm": "ln_1", "attn_qkv": "attn.c_attn", "attn_output": "attn.c_proj", "ffn_norm": "ln_2",
             "ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"},
}
GPT2_ENDS = {"token_embd": "transformer.wte", "position_embd": "transformer.wpe", "output_norm": "transformer.ln_f",
             "output": "lm_head"}
ARCHITECTURES = {"mistral": "llama"}  # of a model type, where it has another name
ROPE = ("rope_freqs", "rope_factors_long", "rope_factors_short")


def architecture_of(config):
    return ARCHITECTURES.get(config.model_type, config.model_type)


def module_of(architecture, name):
    """The module in transformers of `blk.0.attn_q`, or None."""
    found = re.fullmatch(r"blk\.(\d+)\.(\w+)", name)
    if found is None:
        return (GPT2_ENDS if architecture == "gpt2" else ENDS).get(name)
    inside = LAYERS[architecture].get(found[2])
    before = "transformer.h" if architecture == "gpt2" else "model.layers"
    return inside and f"{before}.{found[1]}.{inside}"


def permuted(rows, heads):
    """As llama.cpp's converter lays out the rows of q and k: halves of a head become neighbours."""
    return rows.reshape(heads, 2, rows.shape[0] // heads // 2, -1).swapaxes(1, 2).reshape(rows.shape)


def unpermuted(rows, heads):
    return rows.reshape(heads, rows.shape[0] // heads // 2, 2, -1).swapaxes(1, 2).reshape(rows.shape)


def heads_of(name, config):
    """How many heads the rows of a tensor are permuted in; 0: they are not."""
    if architecture_of(config) != "llama":
        return 0
    part = name.split(".")[2] if name.startswith("blk.") else ""
    return {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}.get(part, 0)


def tensors_of(path):
    return gguf.GGUFReader(path).tensors


def undone(tensor, config):
    """Name in transformers (None: it has none), the rule in words, and the tensor as it stands there, float32."""
    architecture = architecture_of(config)
    value = gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
    stem, _, ending = tensor.name.rpartition(".")
    if stem in ROPE:
        return None, "rotary frequencies are divided by these", value
    name = f"{module_of(architecture, stem)}.{ending}"
    heads = heads_of(tensor.name, config)
    if heads:
        return name, f"unpermute {heads} heads", unpermuted(value, heads)
    if architecture == "gpt2" and re.search(r"attn_qkv|attn_output|ffn_", stem) and value.ndim == 2:
        return name, "transpose", value.T
    if architecture == "gemma2" and "norm" in stem:
        return name, "minus 1", value - np.float32(1)
    return name, "", value


# ---- Llama 3's scaling of rotary frequencies

def llama3_factors(theta, dims, factor, low, high, original):
    """What the converter writes as rope_freqs: the numbers that divide each frequency."""
    inverse = theta ** (np.arange(0, dims, 2, dtype=np.float64) / dims)  # 1 / frequency
    turns = original / (2 * np.pi * inverse)                             # of the original context
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return 1 / ((1 - smooth) / factor + smooth)


def llama3_from(factors, theta):
    """The four numbers of config.json that give these factors, or None where none do.

    `factor` is the largest. Between the bands 1/f is linear in the turns of a frequency; original, low and high are
    determined up to a common scale, so that low = 1 (Meta's) is taken and the rest follows from two of them. One
    alone, or none, leaves a choice: Meta's 8192, 1, 4 first, then the rest of the powers of two.
    """
    factors = np.asarray(factors, dtype=np.float64)
    dims, factor = 2 * len(factors), factors.max()

    def fits(*numbers):
        return np.allclose(llama3_factors(theta, dims, factor, *numbers), factors, rtol=2e-6, atol=0)

    for original in (8192, *(2 ** n for n in range(4, 21))):
        if fits(1.0, 4.0, original):
            return {"factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                    "original_max_position_embeddings": original}
    between = np.flatnonzero((factors > 1 + 1e-6) & (factors < factor * (1 - 1e-6)))
    if len(between) < 2:
        return None
    smooth = (1 / factors - 1 / factor) / (1 - 1 / factor)
    x = 1 / (2 * np.pi * theta ** (2 * between / dims))
    slope, start = np.polyfit(x, smooth[between], 1)  # smooth = (original x - low) / (high - low)
    high = 1 - 1 / start
    original = int(round(slope * (high - 1)))
    return {"factor": factor, "low_freq_factor": 1.0, "high_freq_factor": high,
            "original_max_position_embeddings": original} if start < 0 and fits(1.0, high, original) else None


# ---- config.json from the metadata

def shortest(value):
    """A float32 of the file as the decimal that was meant."""
    return float(str(np.float32(value)))


def rope_of(get, name_of, arrays, theta, head_dim):
    """rope_parameters, and what stands beside them."""
    length = get("context_length")
    original = get("rope.scaling.original_context_length", length)
    rotated = get("rope.dimension_count", head_dim)
    part = {"partial_rotary_factor": rotated / head_dim} if rotated != head_dim else {}
    rope = {"rope_type": "default", "rope_theta": theta, **part}
    long, short, freqs = (arrays.get(f"{stem}.weight") for stem in ("rope_factors_long", "rope_factors_short", "rope_freqs"))
    kind, factor = get("rope.scaling.type", "linear"), shortest(get("rope.scaling.factor", get("rope.scale_linear", 0.0)))
    if long is not None and short is not None:
        return {**rope, "rope_type": "longrope", "long_factor": [shortest(v) for v in long],
                "short_factor": [shortest(v) for v in short], "original_max_position_embeddings": original}
    if freqs is not None and not np.all(freqs == 1):
        found = llama3_from(freqs, theta)
        if found:
            return {**rope, "rope_type": "llama3", **found}
        same = [shortest(v) for v in freqs]
        return {**rope, "rope_type": "longrope", "long_factor": same, "short_factor": same, "attention_factor": 1.0,
                "original_max_position_embeddings": length}
    if kind == "yarn" and factor > 0:
        beta = {f"beta_{s}": shortest(get(f"rope.scaling.yarn_beta_{s}")) for s in ("fast", "slow")
                if get(f"rope.scaling.yarn_beta_{s}") is not None}
        return {**rope, "rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original, **beta}
    if kind == "linear" and factor not in (0, 1):
        return {**rope, "rope_type": "linear", "factor": factor}
    return rope


def config_of(path):
    """model_type and keys of config.json, from the file alone."""
    reader = gguf.GGUFReader(path)
    name = reader.fields["general.architecture"].contents()
    arrays = {t.name: gguf.dequantize(t.data, t.tensor_type) for t in reader.tensors if t.name.startswith("rope_")}
    shapes = {t.name: [int(n) for n in reversed(t.shape)] for t in reader.tensors}

    def get(key, missing=None):
        field = reader.fields.get(f"{name}.{key}")
        return field.contents() if field else missing

    def token(key):
        field = reader.fields.get(f"tokenizer.ggml.{key}_token_id")
        return field.contents() if field else None

    width, heads, layers = get("embedding_length"), get("attention.head_count"), get("block_count")
    rows = shapes["token_embd.weight"][0]
    ids = {"vocab_size": rows, "bos_token_id": token("bos"), "eos_token_id": token("eos"), "pad_token_id": token("padding"),
           "tie_word_embeddings": "output.weight" not in shapes}
    if name == "gpt2":
        return {"model_type": name, **ids, "n_embd": width, "n_layer": layers, "n_head": heads,
                "n_positions": get("context_length"), "n_inner": shapes["blk.0.ffn_down.weight"][1],
                "layer_norm_epsilon": shortest(get("attention.layer_norm_epsilon"))}
    head_dim = get("attention.key_length", width // heads)
    theta = shortest(get("rope.freq_base", 10000.0))
    config = {"model_type": name, **ids, "hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads,
              "num_key_value_heads": get("attention.head_count_kv", heads), "intermediate_size": shapes["blk.0.ffn_down.weight"][1],
              "max_position_embeddings": get("context_length"), "rope_parameters": rope_of(get, name, arrays, theta, head_dim),
              "rms_norm_eps": shortest(get("attention.layer_norm_rms_epsilon"))}
    if name in ("llama", "qwen3", "gemma2"):
        config |= {"head_dim": head_dim, "attention_bias": "blk.0.attn_q.bias" in shapes}
    if name == "llama":
        config["mlp_bias"] = "blk.0.ffn_gate.bias" in shapes
    if name == "phi3":
        config |= {"sliding_window": get("attention.sliding_window", 0) or None,
                   "original_max_position_embeddings": get("rope.scaling.original_context_length", get("context_length"))}
    if name == "gemma2":
        config |= {"sliding_window": get("attention.sliding_window", 4096),
                   "query_pre_attn_scalar": width // heads if layers == 46 else head_dim,
                   "attn_logit_softcapping": shortest(get("attn_logit_softcapping", 50.0)),
                   "final_logit_softcapping": shortest(get("final_logit_softcapping", 30.0))}
    return config
