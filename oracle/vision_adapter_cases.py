"""The cases of make_adapters.py on the models of make_vision.py. PEFT has no task for images: what trains beside the
adapter is named, and so are the targets, which it has no defaults for."""
from adapter_cases import Case, plain_lora

from peft import AdaLoraConfig, IA3Config, LoHaConfig, LoraConfig, OFTConfig, RandLoraConfig, VeraConfig

KEEP = {"modules_to_save": ["classifier"]}
QV = ["q_proj", "v_proj"]


def lora(**options):
    return LoraConfig(**{**KEEP, "r": 3, "lora_alpha": 6, "target_modules": QV, **options})


def lora_cases():
    yield Case("lora_vit", "vit_cls", lora(), "factors, and the classifier whole")
    yield Case("lora_vit_alone", "vit_several", lora(modules_to_save=None), "several labels a row; the head is frozen",
               spread={"lora_B": 1.0})
    yield Case("lora_vit_patches", "vit_cls", lora(target_modules=["projection", "fc1"]),
               "the convolution that makes the patches")
    yield Case("lora_vit_bias", "vit_reg", lora(bias="lora_only", target_modules=["o_proj", "fc2"]), "biases too")
    yield Case("lora_all_linear_vit", "vit_oblong", lora(r=2, target_modules="all-linear",
                                                        exclude_modules=["classifier"]), "all-linear")
    yield Case("dora_vit", "vit_cls", lora(use_dora=True, target_modules=["q_proj", "o_proj", "fc2"]), "DoRA",
               [("no DoRA", plain_lora)])
    yield Case("lora_dinov2", "dinov2_cls", lora(target_modules=["q_proj", "o_proj", "fc2"]), "before a scale")
    yield Case("lora_dinov2_gated", "dinov2_gated", lora(target_modules=["v_proj", "down_proj"]),
               "the layer behind the gate")
    yield Case("lora_dinov2_registers", "dinov2_registers", lora(), "beside registers")


def method_cases():
    yield Case("ia3_dinov2", "dinov2_cls", IA3Config(**KEEP, target_modules=["k_proj", "v_proj", "fc2"],
                                                    feedforward_modules=["fc2"]), "scales of inputs and outputs")
    yield Case("randlora_deit", "deit_cls", RandLoraConfig(**KEEP, r=6, randlora_alpha=8,
                                                          target_modules=["q_proj", "v_proj", "fc1"]),
               "square and tall layers", spread={"lambda": 0.1, "gamma": 0.1})
    yield Case("vera_dinov2_registers", "dinov2_registers", VeraConfig(**KEEP, r=6, target_modules=QV), "VeRA")
    yield Case("loha_vit_patches", "vit_cls", LoHaConfig(**KEEP, r=3, alpha=6, target_modules=["projection", "fc2"]),
               "LoHa on the convolution")
    yield Case("oft_dinov2", "dinov2_cls", OFTConfig(**KEEP, oft_block_size=4, target_modules=QV), "OFT")
    yield Case("adalora_vit", "vit_cls", AdaLoraConfig(**KEEP, init_r=4, target_r=2, lora_alpha=7, total_step=12, tinit=1,
                                                      tfinal=2, deltaT=1, target_modules=QV), "AdaLoRA")


FAMILIES = [lora_cases, method_cases]
