"""The cases of make_adapters.py on causal models, where these differ from encoders."""
from adapter_cases import (Case, columns_first, other_variant, plain_lora, reversed_prompt, values_before_keys)

from peft import (AdaLoraConfig, IA3Config, LoHaConfig, LoKrConfig, LoraConfig, OFTConfig, PrefixTuningConfig,
                  PromptTuningConfig, RandLoraConfig, VeraConfig)

KEEP = {"task_type": "CAUSAL_LM"}
ENDS = ["embed_tokens", "lm_head"]  # given as copies: PEFT changes its lists


def tokens_as_they_were(model):
    """The rows that trainable_token_indices trains, as the base has them."""
    table = model.get_input_embeddings()
    forget(table)


def head_as_it_was(model):
    forget(model.get_output_embeddings())


def forget(table):
    rows = table.token_adapter.token_indices["default"]
    table.token_adapter.trainable_tokens_delta["default"].data = table.original_module.weight[rows].detach().clone()


def lora(**options):
    return LoraConfig(**{**KEEP, "r": 4, "lora_alpha": 8, **options})


def family_cases():
    for base in ("llama_heads", "mistral_window", "qwen2_window", "gemma2", "gpt2"):
        yield Case(f"lora_{base}", base, lora(), "default targets")
    yield Case("lora_phi3_window", "phi3_window", lora(target_modules=["qkv_proj", "gate_up_proj"]), "fused linears")
    yield Case("lora_all_linear_llama", "llama_biases", lora(r=3, lora_alpha=5, target_modules="all-linear"),
               "all-linear: the head not")
    yield Case("lora_all_linear_qwen3", "qwen3_tied", lora(r=2, target_modules="all-linear"), "all-linear, tied head")
    yield Case("lora_all_linear_gpt2", "gpt2_scaled", lora(r=2, lora_alpha=5, target_modules="all-linear"),
               "all-linear: Conv1D everywhere")
    yield Case("lora_all_linear_phi3", "phi3_long", lora(r=2, target_modules="all-linear"), "all-linear, fused")


def end_cases():
    """Embeddings and head: adapted, trained whole, or trained row by row."""
    yield Case("lora_ends", "llama_heads", lora(target_modules=["q_proj", *ENDS]),
               "embeddings and head adapted; the file holds their base weights too", embeddings="auto")
    yield Case("lora_embedding_tied", "llama_tied", lora(target_modules=["q_proj", "embed_tokens"]),
               "the embedding of a tied model adapted: the head goes on with the base's", embeddings="auto")
    yield Case("lora_head_tied", "llama_tied", lora(target_modules=["v_proj", "lm_head"]),
               "the head of a tied model adapted: the embedding stays the base's")
    yield Case("lora_wte", "gpt2", lora(target_modules=["c_attn", "wte"]), "the embedding of GPT-2, tied")
    yield Case("lora_save_ends", "llama_heads", lora(modules_to_save=list(ENDS)), "embeddings and head trained whole")
    yield Case("lora_save_embedding_tied", "llama_tied", lora(modules_to_save=["embed_tokens"]),
               "the embedding of a tied model trained whole: the head stays the base's")
    yield Case("lora_save_ends_tied", "llama_tied", lora(modules_to_save=list(ENDS), ensure_weight_tying=True),
               "embedding and head of a tied model trained as one, stored twice")
    rows = list(range(3, 20))
    off = [("the tokens as they were", tokens_as_they_were)]
    yield Case("lora_tokens", "llama_heads", lora(trainable_token_indices=rows), "some rows of the embedding trained",
               off)
    yield Case("lora_tokens_tied", "llama_tied", lora(trainable_token_indices={"embed_tokens": rows}),
               "some rows of a tied embedding trained: the head's too", off)


def resized_cases():
    """Vocabularies that have grown: the file holds the base's embeddings too."""
    new = list(range(61, 73))
    both = {"embed_tokens": new, "lm_head": new}
    off = [("the tokens as they were", tokens_as_they_were)]
    grown = {"new_tokens": 12, "embeddings": True}
    yield Case("lora_head_tokens", "llama_heads", lora(trainable_token_indices={"embed_tokens": list(range(3, 20)), "lm_head": [4]}),
               "rows of an untied head trained", [*off, ("the head as it was", head_as_it_was)])
    yield Case("lora_new_tokens", "llama_heads", lora(trainable_token_indices=both),
               "new tokens, rows of embedding and untied head trained", [*off, ("the head as it was", head_as_it_was)],
               **grown)
    yield Case("lora_new_tokens_words", "llama_heads", lora(trainable_token_indices=new),
               "new tokens, the head's rows as transformers drew them", off, **grown)
    yield Case("lora_new_tokens_tied", "llama_tied", lora(trainable_token_indices=new), "new tokens, tied", off, **grown)
    yield Case("lora_new_tokens_gpt2", "gpt2", lora(trainable_token_indices=new), "new tokens of GPT-2", off, **grown)
    yield Case("lora_new_save_ends", "llama_heads", lora(modules_to_save=list(ENDS)),
               "resized ends trained whole", **grown)
    yield Case("lora_new_save_embedding_tied", "llama_tied", lora(modules_to_save=["embed_tokens"]),
               "a resized embedding trained whole; the tied head stays the base's", **grown)
    yield Case("lora_new_ends", "llama_heads", lora(target_modules=["q_proj", *ENDS]), "resized ends adapted", **grown)
    yield Case("lora_new_untrained", "llama_heads", lora(), "resized ends that do not train", **grown)


def method_cases():
    yield Case("dora_llama", "llama_biases", lora(use_dora=True, target_modules="all-linear"), "DoRA",
               [("no DoRA", plain_lora)])
    yield Case("dora_gpt2", "gpt2", lora(use_dora=True, target_modules=["c_attn", "c_fc"]), "DoRA on a Conv1D",
               [("no DoRA", plain_lora)])
    adalora = {**KEEP, "init_r": 5, "target_r": 2, "lora_alpha": 7, "total_step": 12, "tinit": 1, "tfinal": 2,
               "deltaT": 1, "orth_reg_weight": 0.3, "target_modules": ["q_proj", "v_proj", "up_proj"]}
    yield Case("adalora_llama", "llama_heads", AdaLoraConfig(**adalora), "pruned, one layer of rank 0", prune=True)
    yield Case("randlora_llama", "llama_tied", RandLoraConfig(**KEEP, r=5, randlora_alpha=10,
                                                              target_modules="all-linear"),
               "square, wide and tall layers share bases")
    yield Case("vera_llama", "llama_tied", VeraConfig(**KEEP, r=6, target_modules=["q_proj", "v_proj", "down_proj"]),
               "layers of three shapes share bases")
    yield Case("ia3_llama", "llama_tied", IA3Config(**KEEP), "keys, values and the input of down_proj")
    yield Case("ia3_gpt2", "gpt2", IA3Config(**KEEP), "Conv1D: c_attn's output and the input of mlp.c_proj")
    yield Case("oft_llama", "llama_heads", OFTConfig(**KEEP, oft_block_size=4), "default targets",
               [("the other formula", other_variant), ("the triangle by columns", columns_first)])
    yield Case("loha_llama", "llama_tied", LoHaConfig(**KEEP, r=4, alpha=5, target_modules=["q_proj", "v_proj"]),
               "grouped heads")
    yield Case("lokr_llama", "llama_tied", LoKrConfig(**KEEP, r=2, alpha=5,
                                                      target_modules=["q_proj", "v_proj", "gate_proj"]),
               "grouped heads")
    for base in ("llama_tied", "gpt2"):
        yield Case(f"prompt_tuning_{base}", base, PromptTuningConfig(**KEEP, num_virtual_tokens=3),
                   "three rows before the embeddings of each text", [("the rows reversed", reversed_prompt)])
        yield Case(f"prefix_tuning_{base}", base, PrefixTuningConfig(**KEEP, num_virtual_tokens=3),
                   "three keys and values before those of each layer", [("values before keys", values_before_keys)])


FAMILIES = [family_cases, end_cases, resized_cases, method_cases]
