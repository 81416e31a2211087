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
