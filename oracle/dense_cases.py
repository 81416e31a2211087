"""The cases of make_dense.py, and their methods' equations as the papers give them."""
from common import normal

from dataclasses import dataclass, field

import torch

SIX = ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"]
SECOND_FEED_FORWARD = r".*\.layer\.\d+\.output\.dense"


@dataclass
class Case:
    name: str
    base: str
    method: str
    targets: list | str        # suffixes, or one regular expression
    options: dict = field(default_factory=dict)


def moslora(alpha, r, **options):
    return {"r": r, "lora_alpha": alpha, **options}


def lora2(alpha, r, k, weight=0.0):
    return {"r": r, "lora_alpha": alpha, "k": k, "orth_reg_weight": weight}


def sora(alpha, r, penalty=0.0, xi=0.0, rule="soft"):
    return {"r": r, "lora_alpha": alpha, "sparse_lambda": penalty, "sparse_lambda_2": xi, "sparse_rule": rule}


CASES = [
    Case("moslora_bert", "bert_cls", "moslora", ["query", "key", "value"], moslora(alpha=9, r=4)),
    Case("moslora_roberta", "roberta_reg", "moslora", SIX, moslora(alpha=6, r=3)),
    Case("moslora_butterfly", "bert_cls", "moslora", ["query", "output.dense"],
         moslora(alpha=7, r=4, mixer_init="butterfly")),
    Case("moslora_four_subspaces", "roberta_cls", "moslora", ["value", "intermediate.dense"],
         moslora(alpha=6, r=8, mixer_init="butterfly", mixer_subspaces=4)),
    Case("lora2_bert", "bert_cls", "lora2", ["query", "value", "output.dense"], lora2(alpha=10, r=4, k=2)),
    Case("lora2_k1", "roberta_cls", "lora2", SIX, lora2(alpha=12, r=5, k=1)),
    Case("lora2_k_above_r", "bert_reg", "lora2", ["query", "intermediate.dense"], lora2(alpha=8, r=3, k=5)),
    Case("lora2_penalty", "roberta_reg", "lora2", ["value", "output.dense"], lora2(alpha=8, r=4, k=3, weight=0.1)),
    Case("sora_bert", "bert_cls", "sora", ["query", "value", "intermediate.dense"], sora(alpha=10, r=4)),
    Case("sora_penalty", "roberta_reg", "sora", ["key", "output.dense"], sora(alpha=9, r=3, penalty=0.5)),
    Case("sora_proximal", "bert_cls", "sora", ["query", "value"], sora(alpha=10, r=6, xi=0.02)),
    Case("sora_authors", "bert_cls", "sora", ["query", "value"], sora(alpha=10, r=6, xi=0.02, rule="authors")),
    Case("lora_xs", "roberta_cls", "lora_xs", ["query", "intermediate.dense", "output.dense"],
         {"r": 3, "lora_alpha": 7}),
    Case("houlsby_bert", "bert_cls", "houlsby", ["attention.output.dense", "output.dense"], {"bottleneck_dim": 5}),
    Case("houlsby_roberta", "roberta_reg", "houlsby", ["attention.output.dense", "output.dense"],
         {"bottleneck_dim": 3}),
    Case("pfeiffer_bert", "bert_reg", "pfeiffer", SECOND_FEED_FORWARD, {"bottleneck_dim": 4}),
    Case("pfeiffer_roberta", "roberta_cls", "pfeiffer", SECOND_FEED_FORWARD, {"bottleneck_dim": 20}),
    Case("bitfit_bert", "bert_cls", "bitfit", []),
]


# ---- updates of a weight W0 [q, p]: shapes of the tensors, and dW

def scale(case):
    return case.options["lora_alpha"] / case.options["r"]


def has_butterfly(case):
    return case.options.get("mixer_init") == "butterfly"


def moslora_shapes(case, q, p):
    r = case.options["r"]
    mixer = {} if has_butterfly(case) else {"lora_AB.weight": (r, r)}
    return {"lora_A.weight": (r, p), **mixer, "lora_B.weight": (q, r)}


def butterfly(r, subspaces, like):
    """The fixed mixer: as many blocks each way as there are subspaces, every one the identity."""
    return torch.eye(r // subspaces, dtype=like.dtype).repeat(subspaces, subspaces)


def moslora_delta(case, t):
    """dW = alpha/r B M A, the mixer M between the subspaces."""
    subspaces = case.options.get("mixer_subspaces", 2)
    mixer = butterfly(case.options["r"], subspaces, t["lora_A.weight"]) if has_butterfly(case) else t["lora_AB.weight"]
    return scale(case) * (t["lora_B.weight"] @ mixer @ t["lora_A.weight"])


def lora2_shapes(case, q, p):
    r, k = case.options["r"], case.options["k"]
    return {"lora_A": (k, p), "lora_B": (r, k), "lora_E": (r, 1), "lora_aa": (k, r), "lora_bb": (q, k)}


def products(t):
    """Q = U V and P = v u of the paper, transposed to act on columns: left [q, r] and right [r, p]."""
    return t["lora_bb"] @ t["lora_aa"], t["lora_B"] @ t["lora_A"]


def lora2_delta(case, t):
    """dW = alpha/(r + 1e-5) left diag(E) right."""
    left, right = products(t)
    return case.options["lora_alpha"] / (case.options["r"] + 1e-5) * (
        left @ torch.diag(t["lora_E"].squeeze(1)) @ right)


def off_orthogonal(matrix):
    """Squared Frobenius norm of the smaller Gram matrix minus the identity."""
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    return ((gram - torch.eye(len(gram), dtype=gram.dtype)) ** 2).sum()


def regularisers(t):
    """LoRA2's three on one layer: the products, the pair U, V and the pair u, v."""
    left, right = products(t)
    return {"PQ": off_orthogonal(left) + off_orthogonal(right),
            "UV": off_orthogonal(t["lora_aa"]) + off_orthogonal(t["lora_bb"]),
            "uv": off_orthogonal(t["lora_B"]) + off_orthogonal(t["lora_A"])}


def sora_shapes(case, q, p):
    r = case.options["r"]
    return {"lora_A": (r, p), "lora_B": (q, r), "gate": (1, r)}


def sora_delta(case, t):
    """dW = alpha/r B diag(gate) A."""
    return scale(case) * (t["lora_B"] @ torch.diag(t["gate"].squeeze(0)) @ t["lora_A"])


def shrink(gate, xi, rule):
    """SoRA's proximal step. The authors' code zeroes what is below xi after it has subtracted xi."""
    if rule == "soft":
        return gate.sign() * (gate.abs() - xi).clamp(min=0)
    moved = torch.where(gate > xi, gate - xi, torch.where(gate < -xi, gate + xi, gate))
    return torch.where(moved.abs() < xi, torch.zeros_like(moved), moved)


def lora_xs_shapes(case, q, p):
    r = case.options["r"]
    return {"lora_A.weight": (r, p), "lora_B.weight": (q, r), "lora_latent_mapping.weight": (r, r)}


def lora_xs_delta(case, t):
    """dW = alpha/r B R A; only R trains."""
    return scale(case) * (t["lora_B.weight"] @ t["lora_latent_mapping.weight"] @ t["lora_A.weight"])


def lora_xs_planes(case, weight):
    """A = Sigma_r V_r^T and B = U_r of the r largest singular values."""
    U, sigma, Vt = torch.linalg.svd(weight.double(), full_matrices=False)
    r = case.options["r"]
    return {"lora_A.weight": (sigma[:r, None] * Vt[:r]).float(), "lora_B.weight": U[:, :r].float()}


FROZEN = ("lora_A.weight", "lora_B.weight")  # of LoRA-XS
SHAPES = {"moslora": moslora_shapes, "lora2": lora2_shapes, "sora": sora_shapes, "lora_xs": lora_xs_shapes}
DELTA = {"moslora": moslora_delta, "lora2": lora2_delta, "sora": sora_delta, "lora_xs": lora_xs_delta}


# ---- bottlenecks behind a linear of width d

def bottleneck_shapes(case, q, p):
    m = case.options["bottleneck_dim"]
    return {"adapter_down.weight": (m, q), "adapter_down.bias": (m,), "adapter_up.weight": (q, m),
            "adapter_up.bias": (q,)}


def bottleneck(h, t):
    """h + W_up gelu(W_down h + b_down) + b_up, gelu exact."""
    narrow = torch.nn.functional.gelu(h @ t["adapter_down.weight"].T + t["adapter_down.bias"])
    return h + narrow @ t["adapter_up.weight"].T + t["adapter_up.bias"]


BOTTLENECKS = ("houlsby", "pfeiffer")
SHAPES |= {method: bottleneck_shapes for method in BOTTLENECKS} | {"bitfit": lambda case, q, p: {}}


# ---- which of the base's own tensors train, and how the others are drawn

def trains_in_base(case, name):
    """The head always; every bias under BitFit; every LayerNorm under Houlsby."""
    return (name.startswith("classifier") or case.method == "bitfit" and name.endswith(".bias")
            or case.method == "houlsby" and "LayerNorm" in name)


SPREAD = {"lora_A": 0.4, "lora_AB": 0.6, "lora_B": 0.4, "lora_E": 1.0, "lora_aa": 0.6, "lora_bb": 0.4, "gate": 0.7,
          "lora_latent_mapping": 0.4, "adapter_down": 0.4, "adapter_up": 0.4}


def drawn(key, shape, rng):
    return normal(shape, SPREAD[key.removesuffix(".weight").removesuffix(".bias")], rng)
