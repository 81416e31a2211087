"""The cases of make_adapters.py on the encoders of make_encoders.py: families, and heads other than a classifier."""
from adapter_cases import KEEP, Case, plain_lora, reversed_prompt, values_before_keys

from peft import (AdaLoraConfig, IA3Config, LoHaConfig, LoKrConfig, LoraConfig, OFTConfig, PrefixTuningConfig,
                  PromptTuningConfig, RandLoraConfig, VeraConfig)

TOKENS, ANSWERS = {"task_type": "TOKEN_CLS"}, {"task_type": "QUESTION_ANS"}
SHARED = ["query_proj", "key_proj", "value_proj"]


def lora(task=KEEP, **options):
    return LoraConfig(**{**task, "r": 3, "lora_alpha": 6, **options})


# ---- what a case changes in the loaded model to switch its feature off

def positions_of_the_base(model):
    """Keys and queries of relative positions by the layers without their adapters."""
    for attention in (m for m in model.modules() if hasattr(m, "disentangled_attention_bias")):
        def bias(*args, own=attention, forward=attention.disentangled_attention_bias, **kwargs):
            adapted = own.query_proj, own.key_proj
            own.query_proj, own.key_proj = (layer.base_layer for layer in adapted)
            try:
                return forward(*args, **kwargs)
            finally:
                own.query_proj, own.key_proj = adapted
        attention.disentangled_attention_bias = bias


def first_call_only(model):
    """The one layer of ALBERT adapted where it is called first, and as the base has it afterwards."""
    layer = model.get_submodule("base_model.model.albert.encoder.albert_layer_groups.0")
    forward, calls = layer.forward, []

    def call(*args, **kwargs):
        calls.append(1)
        if len(calls) == 1:
            return forward(*args, **kwargs)
        with model.disable_adapter():
            return forward(*args, **kwargs)
    layer.forward = call


# ---- cases

def family_cases():
    for base in ("xlm_roberta_cls", "electra_cls", "deberta_v3_cls", "deberta_listed"):
        yield Case(f"lora_{base.removesuffix('_cls')}", base, lora(), "default targets")
    for base, targets in (("distilbert_cls", ["q_lin", "v_lin"]), ("albert_cls", ["query", "value"]),
                          ("mpnet_cls", ["q", "v"]), ("modernbert_cls", ["Wqkv"])):
        yield Case(f"lora_{base.removesuffix('_cls')}", base, lora(target_modules=targets), "PEFT has no defaults",
                   [("one call alone", first_call_only)] if base == "albert_cls" else [])
    for base in ("distilbert_reg", "electra_equal", "albert_cls", "mpnet_cls", "modernbert_mean", "deberta_v3_cls",
                 "deberta_xl"):
        name = base.removesuffix("_cls").removesuffix("_reg")
        # PEFT would save pre_classifier whole too, whose name ends in classifier.
        exclude = ["pre_classifier"] if base == "distilbert_reg" else None
        yield Case(f"lora_all_linear_{name}", base,
                   lora(r=2, lora_alpha=4, target_modules="all-linear", exclude_modules=exclude), "all-linear")
    yield Case("lora_albert_groups", "albert_groups", lora(lora_alpha=9, target_modules=["value", "ffn_output"]),
               "four layers, each called twice")


def layer_cases():
    off = [("positions by the base's layers", positions_of_the_base)]
    yield Case("lora_deberta_shared", "deberta_v3_cls", lora(target_modules=SHARED),
               "layers that tokens and relative positions share: each acts twice", off)
    yield Case("lora_deberta_own", "deberta_listed", lora(target_modules=["pos_key_proj", "pos_query_proj"]),
               "the linears of relative positions alone")
    yield Case("dora_deberta", "deberta_v3_cls", lora(target_modules=SHARED, use_dora=True), "DoRA on shared layers",
               [("no DoRA", plain_lora)])
    yield Case("lora_deberta_bias", "deberta_v3_cls", lora(bias="lora_only", target_modules=SHARED),
               "biases of shared layers: that of the key moves p2c")
    yield Case("lora_deberta_pooler", "deberta_c2p", lora(modules_to_save=["pooler"]), "the pooler trained whole")
    yield Case("lora_distilbert_head", "distilbert_cls",
               lora({}, target_modules=["lin1", "lin2"], modules_to_save=["pre_classifier"]),
               "no task: of the head the first layer alone trains")
    yield Case("lora_electra_ends", "electra_cls", lora(target_modules=["word_embeddings", "embeddings_project"]),
               "an embedding of its own width, and what widens it")
    yield Case("dora_albert", "albert_cls", lora(target_modules=["query", "value", "ffn"], use_dora=True),
               "DoRA on a layer that is called four times", [("no DoRA", plain_lora)])
    yield Case("lora_modernbert_ends", "modernbert_cls", lora(target_modules=["tok_embeddings", "Wi"],
                                                              modules_to_save=["head"]), "embedding, fused gates, head")


def method_cases():
    def adalora(**options):
        return AdaLoraConfig(**{**KEEP, "init_r": 4, "target_r": 2, "lora_alpha": 7, "total_step": 12, "tinit": 1,
                                "tfinal": 2, "deltaT": 1, **options})

    yield Case("adalora_deberta", "deberta_v3_cls", adalora(), "default targets, the pooler among them")
    yield Case("adalora_deberta_pruned", "deberta_p2c", adalora(target_modules=SHARED, orth_reg_weight=0.3),
               "pruned by PEFT's allocator", prune=True)
    yield Case("ia3_deberta", "deberta_v3_cls", IA3Config(**KEEP), "default targets")
    yield Case("ia3_albert", "albert_cls", IA3Config(**KEEP, target_modules=["key", "value", "ffn_output"],
                                                     feedforward_modules=["ffn_output"]), "one scale for four calls")
    yield Case("randlora_albert", "albert_cls", RandLoraConfig(**KEEP, r=6, randlora_alpha=8,
                                                               target_modules=["query", "value", "ffn"]),
               "square and wide layers", spread={"lambda": 0.1, "gamma": 0.1})
    yield Case("vera_electra", "electra_cls", VeraConfig(**KEEP, r=6, target_modules=["query", "value"]), "VeRA")
    yield Case("loha_distilbert", "distilbert_cls", LoHaConfig(**KEEP, r=4, alpha=8, target_modules=["q_lin", "lin2"]),
               "LoHa")
    yield Case("lokr_mpnet", "mpnet_cls", LoKrConfig(**KEEP, r=3, alpha=6, target_modules=["q", "k", "v", "o"]), "LoKr")
    yield Case("oft_modernbert", "modernbert_cls", OFTConfig(**KEEP, oft_block_size=4, target_modules=["Wqkv", "Wo"]),
               "OFT on fused layers, and on both that are called Wo")


def head_cases():
    for family in ("bert", "deberta", "roberta"):
        yield Case(f"lora_{family}_tokens", f"{family}_tokens", lora(TOKENS), "token classification")
    yield Case("lora_modernbert_tokens", "modernbert_tokens", lora(TOKENS, target_modules=["Wqkv"]),
               "token classification: of the head the classifier alone trains")
    # Without BERT: PEFT's model for answers does not hand token_type_ids on.
    for family, targets in (("deberta", None), ("distilbert", ["q_lin", "v_lin"])):
        yield Case(f"lora_{family}_answers", f"{family}_answers", lora(ANSWERS, target_modules=targets),
                   "question answering")
    yield Case("lora_modernbert_answers", "modernbert_answers", lora(ANSWERS, target_modules=["Wqkv"]),
               "question answering by a head that PEFT does not save")
    some = {"lora_A": 0.2, "lora_B": 0.2}
    for family, targets in (("bert", None), ("deberta", None), ("albert", ["query", "value"]),
                            ("modernbert", ["Wqkv"])):
        yield Case(f"lora_{family}_masked", f"{family}_masked", lora({}, target_modules=targets),
                   "masked language modelling: no task of PEFT's, no head in the file", spread=some)
    yield Case("lora_bert_masked_embedding", "bert_masked", lora({}, target_modules=["query", "word_embeddings"]),
               "the tied embedding adapted: the head is the base's", spread=some)
    yield Case("lora_roberta_masked_all", "roberta_masked", lora({}, r=2, target_modules="all-linear"),
               "all-linear: the head's dense too, its decoder not", spread=some)


def prompt_cases():
    for base in ("xlm_roberta_cls", "distilbert_cls", "electra_equal", "albert_cls", "mpnet_cls", "modernbert_cls",
                 "modernbert_mean", "deberta_v3_cls", "deberta_listed"):
        # What PEFT does not find in these configurations, or takes for the width of the words.
        shape = {"distilbert_cls": {"token_dim": 16, "num_layers": 2, "num_attention_heads": 4},
                 "albert_cls": {"token_dim": 8}}.get(base, {})
        yield Case(f"prompt_tuning_{base.removesuffix('_cls')}", base,
                   PromptTuningConfig(**KEEP, num_virtual_tokens=3, **shape),
                   "three rows before the embeddings of each text", [("the rows reversed", reversed_prompt)])
    for base in ("xlm_roberta_cls", "electra_cls"):
        yield Case(f"prefix_tuning_{base.removesuffix('_cls')}", base, PrefixTuningConfig(**KEEP, num_virtual_tokens=3),
                   "three keys and values before those of each layer", [("values before keys", values_before_keys)])


FAMILIES = [family_cases, layer_cases, method_cases, head_cases, prompt_cases]
