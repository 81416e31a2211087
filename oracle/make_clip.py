"""Writes tests/golden/two_towers: CLIP, SigLIP and pairs of other encoders, with adapters of PEFT over both towers."""
from common import (GOLDEN, OPTIMIZER, Widened, generator, normal, provenance, randomise, require_equal, require_moved,
                    rounding_only, save_json, save_tensors, seed_of, training_record, widen)

import json
import re
import shutil
import sys
import warnings
from dataclasses import dataclass, field

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import (AlbertConfig, BertConfig, CLIPConfig, CLIPVisionConfig, Dinov2WithRegistersConfig,
                          PreTrainedConfig, RobertaConfig, SiglipConfig, ViTConfig, VisionTextDualEncoderConfig)

TOWERS = GOLDEN / "two_towers"
warnings.filterwarnings("ignore")

IMAGES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24,
          "image_size": 8, "patch_size": 4}
TEXTS = {"vocab_size": 61, "hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3,
         "intermediate_size": 20, "max_position_embeddings": 12}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
LENGTHS = [[10, 6, 8], [5, 9, 9, 4]]
START, END = 57, 58  # of a text; three tokens have higher ids


@dataclass
class Pair:
    name: str
    config: PreTrainedConfig
    shows: str
    kind: str = "CLIPModel"
    off: list = field(default_factory=list)  # (what, a function on the model): moves the logits
    targets: object = None                   # of LoRA, by the names of the file
    size: tuple = (8, 8)                     # height and width of the images
    end: int = END                           # the token that ends a text
    padding: int = 0
    high: int = 57                           # words have lower ids
    whole_texts: bool = False                # padded to the model's positions, and no mask
    written: object = None                   # config.json as older files have it, made of transformers'
    stored: object = None                    # the tensors of the file, made of transformers'


# ---- files as others write them

def with_position_ids(tensors):
    ids = {f"{tower}_model.embeddings.position_ids": torch.arange(n).unsqueeze(0)
           for tower, n in (("vision", 5), ("text", 12))}
    return {**tensors, **ids}


def with_dicts(config):
    """Both configurations twice, of which the second counts; the first names another activation."""
    given = {f"{key}_dict": config[key] for key in ("text_config", "vision_config")}
    return {**config, **given, "text_config": {**config["text_config"], "hidden_act": "relu"}}


def twice_below(tensors):
    """CLIP's tower as transformers 4 stored it in a pair."""
    renamed = {re.sub(r"^vision_model\.", "vision_model.vision_model.", k): v for k, v in tensors.items()}
    return {**renamed, "text_model.embeddings.position_ids": torch.arange(12).unsqueeze(0)}


# ---- what a case changes in the model to switch its feature off

def activation(name):
    def change(model):
        for module in model.modules():
            if hasattr(module, "activation_fn"):
                module.activation_fn = transformers.activations.ACT2FN[name]
    return change


def end_of_text(value):
    def change(model):
        model.text_model.eos_token_id = value
    return change


def without(name):
    def change(model):
        tower, layer = name.split(".")
        setattr(getattr(model, tower), layer, torch.nn.Identity())
    return change


def first_token(model):
    """The first token is pooled in place of the last one."""
    def hook(module, args, kwargs, output):
        output.pooler_output = module.head(output.last_hidden_state[:, 0])
        return output
    model.text_model.register_forward_hook(hook, with_kwargs=True)


def straight(tower):
    def change(model):
        getattr(model, tower).pooler.activation = torch.nn.Identity()
    return change


# ---- cases

def clip(images=None, texts=None):
    return CLIPConfig(vision_config={**IMAGES, **(images or {})}, text_config={**TEXTS, **(texts or {})},
                      projection_dim=10)


CLIP_LAYERS = ["q_proj", "v_proj", "fc2", "patch_embedding", "text_projection"]


def pairs():
    yield Pair("clip_quick", clip(texts={"eos_token_id": 2, "vocab_size": 59}),
               "quick_gelu; eos_token_id 2, where the highest id ends a text; padding with it; old files",
               targets=CLIP_LAYERS, padding=END, written=with_dicts, stored=with_position_ids,
               off=[("activation", activation("gelu")), ("end", end_of_text(3)),
                    ("pre_layrnorm", without("vision_model.pre_layrnorm"))])
    act = {"hidden_act": "gelu", "layer_norm_eps": 0.05}
    yield Pair("clip_gelu", clip(act, {**act, "eos_token_id": END}),
               "gelu; texts that go on behind their first end, with higher ids; images larger than those of training",
               targets=CLIP_LAYERS, size=(16, 12),
               off=[("activation", activation("quick_gelu")), ("end", end_of_text(2))])
    yield Pair("siglip", SiglipConfig(vision_config=IMAGES, text_config={**TEXTS, "projection_size": 16}),
               "attention pools the patches; the last token of a padded text; sigmoid loss", kind="SiglipModel",
               targets=["q_proj", "v_proj", "fc1", "text_model.head"], padding=1, whole_texts=True,
               off=[("last token", first_token), ("activation", activation("relu"))])
    yield dual("vit_bert", ViTConfig(**IMAGES, **NO_DROPOUT), BertConfig(**TEXTS, **NO_DROPOUT),
               "both poolers are dense layers", ["query", "value", "output.dense", "text_projection"],
               off=[("ViT's pooler", straight("vision_model")), ("BERT's pooler", straight("text_model"))])
    yield dual("clip_roberta", CLIPVisionConfig(**IMAGES),
               RobertaConfig(**{**TEXTS, "max_position_embeddings": 14}, **NO_DROPOUT, pad_token_id=1, type_vocab_size=1),
               "the tower of CLIP below two names", [r"q_proj", "query", "value", "fc1"], padding=1,
               stored=twice_below)
    yield dual("registers_albert", Dinov2WithRegistersConfig(
                   **{k: v for k, v in IMAGES.items() if k != "intermediate_size"}, mlp_ratio=2),
               AlbertConfig(**TEXTS, **NO_DROPOUT, embedding_size=8, classifier_dropout_prob=0.0),
               "no pooler over the first token; layers that are one", ["query", "value", "fc1"])


def dual(name, images, texts, shows, targets, **more):
    config = VisionTextDualEncoderConfig.from_vision_text_configs(images, texts, projection_dim=10)
    return Pair(name, config, shows, kind="VisionTextDualEncoderModel", targets=targets, **more)


# ---- inputs

def make_batch(case, number):
    """Images, and texts of one row each; a text goes on behind its end where words have higher ids."""
    rng = generator(f"{case.name} batch {number}")
    lengths = LENGTHS[number]
    most = case.config.text_config.max_position_embeddings if case.whole_texts else max(lengths)
    ids = torch.full((len(lengths), most), case.padding)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(3, case.high, (length,), generator=rng)
        ids[row, 0] = START
        ids[row, length - 2 if case.name == "clip_gelu" else length - 1] = case.end
        if case.name == "clip_gelu":  # an added token behind the end
            ids[row, length - 1] = 60
        mask[row, :length] = 1
    pixels = normal((len(lengths), 3, *case.size), 1.0, rng)
    return {"input_ids": ids, "attention_mask": mask, "pixel_values": pixels}


def arguments(case, batch):
    given = {k: v for k, v in batch.items() if k != "attention_mask" or not case.whole_texts}
    if case.size != (8, 8):
        given["interpolate_pos_encoding"] = True
    return given


def outputs(case, model, batch):
    return model(**arguments(case, batch), return_loss=True)


def widened_batch(batch):
    return {**batch, "pixel_values": batch["pixel_values"].double()}


def logits(case, model, batch):
    with torch.no_grad():
        return outputs(case, model, batch).logits_per_image


def embeds(case, model, batch):
    """Before they are divided by their lengths."""
    given = arguments(case, batch)
    images = {k: v for k, v in given.items() if k in ("pixel_values", "interpolate_pos_encoding")}
    texts = {k: v for k, v in given.items() if k in ("input_ids", "attention_mask")}
    with torch.no_grad():
        return {"image_embeds": model.get_image_features(**images).pooler_output,
                "text_embeds": model.get_text_features(**texts).pooler_output}


# ---- files

def load(case):
    model = getattr(transformers, case.kind).from_pretrained(TOWERS / case.name / "plain", dtype=torch.float32,
                                                             attn_implementation="eager").eval()
    model.name_or_path = model.config._name_or_path = case.name
    return model


def save(case):
    """The checkpoint; `plain` is transformers' own way to write it, for this script alone."""
    folder = TOWERS / case.name
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(seed_of(case.name))
    model = getattr(transformers, case.kind)(case.config).float()
    randomise(model, case.name)
    with torch.no_grad():
        model.logit_scale.fill_(1.2)
    model.save_pretrained(folder / "plain")
    config = json.loads((folder / "plain" / "config.json").read_text())
    tensors = load_file(folder / "plain" / "model.safetensors")
    save_json(folder / "config.json", case.written(config) if case.written else config)
    save_file(case.stored(tensors) if case.stored else tensors, folder / "model.safetensors", metadata={"format": "pt"})


# transformers 5 has other names in memory than in files.
IN_FILES = [(r"vision_model\.layers\.(\d+)\.", r"vision_model.encoder.layer.\1."),
            (r"(vision_model\..*attention)\.q_proj", r"\1.attention.query"),
            (r"(vision_model\..*attention)\.k_proj", r"\1.attention.key"),
            (r"(vision_model\..*attention)\.v_proj", r"\1.attention.value"),
            (r"(vision_model\..*attention)\.o_proj", r"\1.output.dense")]
IN_FILES_OF_VIT = [(r"(vision_model\..*)mlp\.fc1", r"\1intermediate.dense"),
                   (r"(vision_model\..*)mlp\.fc2", r"\1output.dense")]


def in_file(case, name):
    vision = getattr(case.config, "vision_config").model_type
    if vision in ("clip_vision_model", "siglip_vision_model"):
        return name
    for pattern, there in IN_FILES + (IN_FILES_OF_VIT if vision == "vit" else []):
        name = re.sub(pattern, there, name)
    return name


def targeted(case, model):
    """The modules of the model whose names in the file end as the case says."""
    def hit(name):
        return any(("." + in_file(case, name)).endswith("." + target) for target in case.targets)
    kinds = (torch.nn.Linear, torch.nn.Conv2d)
    return [name for name, module in model.named_modules() if isinstance(module, kinds) and hit(name)]


def adapter_record(case, batches):
    """A LoRA over both towers: its files, and what it makes of logits, gradients and ten steps."""
    config = LoraConfig(r=3, lora_alpha=5, target_modules=targeted(case, load(case)))
    torch.manual_seed(seed_of(case.name))
    model = get_peft_model(load(case), config).eval()
    rng = generator(case.name + " adapter")
    state = get_peft_model_state_dict(model)
    names = {v.data_ptr(): k for k, v in state.items()}
    trained = {names[p.data_ptr()]: p for _, p in model.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for key in sorted(trained):
            trained[key].copy_(normal(trained[key].shape, 0.3, rng))
    folder = TOWERS / case.name / "lora"
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    rename_adapter(case, folder)
    record = {"logits": logits(case, model, batches[0])}
    require_moved(f"{case.name}: the adapter", record["logits"], logits(case, load(case), batches[0]))
    wide = [widened_batch(batch) for batch in batches]
    with Widened():
        widen(model)
        record["logits64"] = logits(case, model, wide[0])
        by_file = {in_file(case, key): value for key, value in trained.items()}
        record |= training_record(by_file, lambda batch: outputs(case, model, batch).loss, wide)
    loose = rounding_only({k[5:]: v for k, v in record.items() if k.startswith("grad.")})
    return {f"lora.{k}": v for k, v in record.items()}, loose


def rename_adapter(case, folder):
    """By the names of the checkpoint, as over transformers 4; what PEFT wrote stays beside it where it has others."""
    path = folder / "adapter_model.safetensors"
    stored = load_file(path)
    renamed = {in_file(case, k): v for k, v in stored.items()}
    if renamed.keys() != stored.keys():
        shutil.copytree(folder, folder.with_name("lora_in_memory"))
    save_file(renamed, path, metadata={"format": "pt"})
    config = json.loads((folder / "adapter_config.json").read_text())
    save_json(folder / "adapter_config.json", {**config, "target_modules": case.targets})


def gradients(case, batch):
    """Of the loss by every tensor of the model, by its name in the file."""
    model = load(case)
    with Widened():
        widen(model).requires_grad_()
        outputs(case, model, widened_batch(batch)).loss.backward()
    return {f"full.{in_file(case, k)}": v.grad.float() for k, v in model.named_parameters() if v.grad is not None}


def write_case(case):
    save(case)
    batches = [make_batch(case, number) for number in range(2)]
    model, batch = load(case), batches[0]
    record = {f"{'batch1.' if i else ''}{k}": v for i, b in enumerate(batches) for k, v in b.items()}
    record |= embeds(case, model, batch)
    record["logits"] = logits(case, model, batch)
    for what, change in case.off:
        other = load(case)
        change(other)
        require_moved(f"{case.name}: {what}", record["logits"], logits(case, other, batch), at_least=30)
    if not case.whole_texts:
        alone = {k: v[1:2, :LENGTHS[0][1]] if v.dim() == 2 else v[1:2] for k, v in batch.items()}
        require_equal(f"{case.name}: padding", record["text_embeds"][1:2], embeds(case, model, alone)["text_embeds"])
    double = load(case)
    with Widened():
        widen(double)
        wide = widened_batch(batch)
        record |= {f"{k}64": v for k, v in embeds(case, double, wide).items()}
        record["logits64"] = logits(case, double, wide)
        with torch.no_grad():
            record["loss64"] = outputs(case, double, wide).loss.reshape(1)
    require_equal(f"{case.name} float64", record["logits"], record["logits64"])
    record |= gradients(case, batch)
    lora, loose = adapter_record(case, batches)
    shutil.rmtree(TOWERS / case.name / "plain")
    save_tensors(TOWERS / case.name / "io.safetensors", {**record, **lora}, __file__, case.name)
    save_json(TOWERS / case.name / "case.json", {"shows": case.shows, "optimizer": OPTIMIZER, "rounding_only": loose,
                                                 "provenance": provenance(__file__, case.name)})


def write_classifier(name, kind, config):
    """A classifier of images alone: the mean of the patches."""
    folder = TOWERS / name
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(seed_of(name))
    config.num_labels = 3
    model = randomise(getattr(transformers, kind)(config).float(), name)
    model.save_pretrained(folder)
    model = getattr(transformers, kind).from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    pixels = normal((3, 3, 8, 8), 1.0, generator(name + " batch"))
    with torch.no_grad():
        record = {"pixel_values": pixels, "logits": model(pixel_values=pixels).logits}
        with Widened():
            record["logits64"] = widen(model)(pixel_values=pixels.double()).logits
    require_equal(f"{name} float64", record["logits"], record["logits64"])
    record["lora.logits"] = adapted_classifier(name, kind)
    require_moved(f"{name}: the adapter", record["lora.logits"], record["logits"])
    save_tensors(folder / "io.safetensors", record, __file__, name)


def adapted_classifier(name, kind):
    """The logits of a LoRA, which trains what no output follows from too: SigLIP's pooling, and CLIP's norm before it."""
    folder = TOWERS / name
    pixels = normal((3, 3, 8, 8), 1.0, generator(name + " batch"))
    load = getattr(transformers, kind).from_pretrained
    model = load(folder, dtype=torch.float32, attn_implementation="eager")
    model.config._name_or_path = model.name_or_path = name
    config = LoraConfig(r=2, lora_alpha=4, target_modules=["out_proj", "fc1"], bias="all",
                        modules_to_save=["classifier", "post_layernorm"])
    model = get_peft_model(model, config)
    rng = generator(name + " adapter")
    with torch.no_grad():
        for _, value in sorted((k, v) for k, v in model.named_parameters() if v.requires_grad):
            value.add_(normal(value.shape, 0.2, rng))
    model.save_pretrained(folder / "lora")
    (folder / "lora" / "README.md").unlink(missing_ok=True)
    base = load(folder, dtype=torch.float32, attn_implementation="eager")
    with torch.no_grad():
        return PeftModel.from_pretrained(base, folder / "lora").eval()(pixel_values=pixels).logits


def main():
    only = sys.argv[1:]
    for case in pairs():
        if not only or case.name in only:
            write_case(case)
            print(f"  {case.name}", flush=True)
    siglip = SiglipConfig(vision_config=IMAGES, text_config={**TEXTS, "projection_size": 16})
    for name, kind, config in (("clip_images", "CLIPForImageClassification", clip()),
                               ("siglip_images", "SiglipForImageClassification", siglip)):
        if not only or name in only:
            write_classifier(name, kind, config)
            print(f"  {name}", flush=True)


if __name__ == "__main__":
    main()
