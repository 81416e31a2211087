"""The cases of make_adapters.py: PEFT configurations, what each is about, and how to switch that off."""
from common import load_base
from make_starts import ROW, SIX, TWO

from dataclasses import dataclass, field

import torch
from peft import (AdaLoraConfig, EvaConfig, IA3Config, LoHaConfig, LoKrConfig, LoraConfig, LoraGAConfig, OFTConfig,
                  PeftConfig, PrefixTuningConfig, PromptTuningConfig, RandLoraConfig, VeraConfig)
from peft.tuners.lora.config import CordaConfig

KEEP = {"task_type": "SEQ_CLS"}


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
    from_start: bool = False                     # PEFT's own start values, moved by random amounts
    lowers_base: bool = False                    # the start value is taken off the base's weight
    calibration: list = field(default_factory=list)  # lengths of the batches that the start follows from
    converted: bool = False                      # saved as a plain LoRA of twice the rank
    embeddings: object = False                   # PEFT's save_embedding_layers
    new_tokens: int = 0                          # rows that the vocabulary grows by, drawn as transformers does
    parts: str = ""                              # last parts of the names in the file, the head's aside


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


def base_not_lowered(model):
    plain = load_base(model.peft_config["default"].base_model_name_or_path)
    for name, layer in layers(model):
        layer.base_layer.weight = plain.get_submodule(name.removeprefix("base_model.model.")).weight


def bias_unscaled(model):
    for _, layer in layers(model):
        layer.lora_B["default"].bias.data /= layer.scaling["default"]


def bases_of_the_key(model):
    rng = torch.Generator().manual_seed(model.peft_config["default"].projection_prng_key)
    for bases in (model.base_model.vera_A["default"], model.base_model.vera_B["default"]):
        bound = (6 / bases.shape[1]) ** 0.5
        bases.uniform_(-bound, bound, generator=rng)


def swap_kronecker(model):
    """w2 kron w1 in place of w1 kron w2, where both have one shape."""
    for _, layer in layers(model):
        one, two = layer.lokr_w1["default"], layer.lokr_w2["default"]
        if one.shape == two.shape:
            one.data, two.data = two.data, one.data


def rotations(model):
    return [m.oft_R["default"] for m in model.modules() if hasattr(m, "oft_R")]


def series_of(terms):
    def change(model):
        for rotation in rotations(model):
            rotation.num_cayley_neumann_terms = terms
    return change


def other_variant(model):
    """The same tensors under the other value of use_cayley_neumann: nearly the opposite rotation."""
    for rotation in rotations(model):
        rotation.use_cayley_neumann = not rotation.use_cayley_neumann


def whole_series(model):
    """What the truncated series approximates: (I + Q)(I - Q)^-1."""
    for rotation in rotations(model):
        rotation.use_cayley_neumann = False
        rotation.weight.data = -rotation.weight.data


def columns_first(model):
    """The upper triangle of a block filled in column by column."""
    for rotation in rotations(model):
        order = sorted(range(rotation.n_elements), key=lambda i: (rotation.cols[i].item(), rotation.rows[i].item()))
        rotation.rows, rotation.cols = rotation.rows[order], rotation.cols[order]


def half_the_bound(model):
    for rotation in rotations(model):
        rotation.eps /= 2


def reversed_prompt(model):
    weight = model.prompt_encoder["default"].embedding.weight
    weight.data = weight.data.flip(0)


def values_before_keys(model):
    weight = model.prompt_encoder["default"].embedding.weight
    width = model.peft_config["default"].token_dim
    weight.data = weight.data.view(len(weight), -1, 2, width).flip(2).reshape(weight.shape)


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


def start_cases():
    def lora(start, **options):
        return LoraConfig(**{**KEEP, "r": 3, "lora_alpha": 7, "init_lora_weights": start, **options})

    off = [("the base as it is in its file", base_not_lowered)]
    # Layers whose second and third singular values lie apart: of the others float32 gives each LAPACK its own directions.
    parted = ["key", "1.attention.self.query", "attention.output.dense", "1.intermediate.dense", "output.dense"]
    yield Case("lora_pissa", "bert_cls", lora("pissa", r=2, target_modules=parted),
               "the base without its first r singular directions", off, from_start=True, lowers_base=True)
    yield Case("lora_olora", "roberta_cls", lora("olora", target_modules=["query", "value", "intermediate.dense",
                                                                          "output.dense"]),
               "the base without the first r columns of its QR", off, from_start=True, lowers_base=True)
    yield Case("lora_orthogonal", "bert_reg", lora("orthogonal", r=4), "B A = 0 at the start; a plain LoRA file",
               from_start=True)
    yield Case("lora_eva", "roberta_cls", lora("eva", target_modules=SIX, eva_config=EvaConfig(rho=3.0)),
               "ranks of their own for the layers, and alphas", [("one alpha for all", scale_as(
                   lambda l: 7 / l.r["default"]))], from_start=True, calibration=[[20, 20]])
    # PEFT leaves the head out where it writes such a start as a LoRA of twice the rank.
    some = {"r": 2, "target_modules": ["query", "output.dense"], "task_type": None}
    yield Case("lora_corda", "bert_reg", lora("corda", **some, corda_config=CordaConfig()),
               "a start that changed the base, converted", from_start=True, calibration=ROW,
               converted=True)
    yield Case("lora_ga", "bert_cls", lora("lora_ga", **some, lora_ga_config=LoraGAConfig()),
               "a start that changed the base, converted", from_start=True, calibration=TWO,
               converted=True)
    yield Case("lora_embedding", "bert_cls", lora(True, target_modules=["word_embeddings", "query"]),
               "an embedding adapted", parts="lora_embedding_A lora_embedding_B weight")
    yield Case("lora_bias_on_B", "bert_cls", lora(True, lora_bias=True, target_modules=["query", "value", "dense"],
                                                  exclude_modules=["pooler.dense"]),
               "lora_bias: B has a bias, scaled with it", [("the bias unscaled", bias_unscaled)], parts="weight bias")


def vera_cases():
    def vera(**options):
        return VeraConfig(**{**KEEP, "r": 6, **options})

    yield Case("vera_bert", "bert_cls", vera(target_modules=["query", "value"]),
               "stored bases differ from the ones that the key gives", [("the key's bases", bases_of_the_key)],
               foreign_bases=True)
    yield Case("vera_all_linear", "roberta_cls", vera(target_modules="all-linear", d_initial=0.5),
               "wide and tall layers share bases of the largest width and height")
    yield Case("vera_regenerated", "bert_reg", vera(target_modules=SIX, save_projection=False, projection_prng_key=7),
               "no bases in the file: drawn from the key")


def loha_cases():
    """Scales that float32 holds exactly: PEFT rounds LoHa's to float32, in a float64 model too."""
    parts = "hada_w1_a hada_w1_b hada_w2_a hada_w2_b"
    yield Case("loha_bert", "bert_cls", LoHaConfig(**KEEP, r=4, alpha=5, target_modules=["query", "key", "value"]),
               "a Hadamard product of two low-rank products", parts=parts)
    patterns = {**PATTERNS, "rank_pattern": {"query": 4, "^roberta.encoder.layer.0.output.dense": 1,
                                             "layer.1.attention.self.value": 8}}
    yield Case("loha_roberta", "roberta_cls", LoHaConfig(**KEEP, r=2, alpha=5, target_modules=SIX, **patterns),
               "rank_pattern and alpha_pattern",
               [("one alpha for all", scale_as(lambda l: 5 / l.r["default"])),
                ("alpha over the common rank", scale_as(lambda l: l.alpha["default"] / 2))], parts=parts)


def lokr_cases():
    def lokr(**options):
        return LoKrConfig(**{**KEEP, "alpha": 5, "target_modules": SIX, **options})

    yield Case("lokr_full_w2", "bert_cls", lokr(r=8, alpha=20), "w2 full everywhere; its scale is alpha/r all the same",
               [("alpha as the scale", scale_as(lambda l: l.alpha["default"])),
                ("the factors swapped", swap_kronecker)], parts="lokr_w1 lokr_w2")
    yield Case("lokr_low_w2", "bert_reg", lokr(r=3), "w2 of rank 3 on the feed-forward layers, full on the others",
               parts="lokr_w1 lokr_w2 lokr_w2_a lokr_w2_b")
    yield Case("lokr_both", "bert_cls", lokr(r=2, decompose_both=True, decompose_factor=8),
               "w1 of rank 2 everywhere, w2 on the feed-forward layers",
               parts="lokr_w1_a lokr_w1_b lokr_w2 lokr_w2_a lokr_w2_b")
    yield Case("lokr_factor", "roberta_cls", lokr(r=4, decompose_factor=8), "factors of 8: the larger one first",
               parts="lokr_w1 lokr_w2")


def oft_cases():
    def oft(**options):
        return OFTConfig(**{**KEEP, "oft_block_size": 4, "target_modules": ["query", "value"], **options})

    def blocks(**options):
        return OFTConfig(**{**KEEP, "oft_block_size": 0, "target_modules": SIX, **options})

    exact = ("the other formula", other_variant)
    rest = ("the series without an end", whole_series)
    order = ("the triangle by columns", columns_first)
    yield Case("oft_default", "bert_cls", oft(), "blocks of 4, five terms of the Neumann series", [exact, rest, order])
    yield Case("oft_exact", "bert_reg", oft(use_cayley_neumann=False), "the Cayley transform itself", [exact, order])
    yield Case("oft_blocks", "roberta_cls", blocks(r=4), "r is the number of blocks: they are 4 or 10 wide",
               [exact, rest])
    yield Case("oft_shared", "bert_cls", oft(oft_block_size=8, block_share=True, target_modules=SIX),
               "one block for all of a layer", [exact, rest])
    yield Case("oft_terms", "bert_cls", oft(num_cayley_neumann_terms=3), "three terms asked for: I + 2Q + 2Q^2 + Q^3",
               [("five terms", series_of(5)), ("two terms", series_of(2))])
    yield Case("oft_adjusted", "bert_cls", oft(oft_block_size=6, target_modules=["value", "output.dense"]),
               "6 divides neither 16 nor 40: the blocks are 4 and 5 wide", [exact])
    yield Case("oft_coft", "bert_cls", oft(coft=True, eps=1.5), "blocks held within eps / sqrt(blocks) at each forward",
               [("half the bound", half_the_bound)])


def prompt_cases():
    for base in ("bert", "roberta"):
        yield Case(f"prompt_tuning_{base}", f"{base}_cls", PromptTuningConfig(**KEEP, num_virtual_tokens=3),
                   "three rows before the embeddings of each text", [("the rows reversed", reversed_prompt)])
        yield Case(f"prefix_tuning_{base}", f"{base}_cls", PrefixTuningConfig(**KEEP, num_virtual_tokens=3),
                   "three keys and values before those of each layer",
                   [("values before keys", values_before_keys)])


FAMILIES = [lora_cases, randlora_cases, adalora_cases, ia3_cases, start_cases, vera_cases, loha_cases, lokr_cases,
            oft_cases, prompt_cases]
