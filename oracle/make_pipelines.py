"""Writes tests/golden/pipelines: tiny pipelines of text to image as diffusers saves them, what each of their parts makes,
every step of pictures with guidance, and adapters of their UNets, one of the text encoder too, with the losses of diffusers'
training scripts, gradients and ten AdamW steps. Names as arguments make some of them. Run by itself, with requirements-unets.txt."""
from common import (GOLDEN, OPTIMIZER, generator, normal, provenance, require_equal, require_moved, save_json, save_tensors,
                    training_record)

import shutil
import sys
import tempfile
import warnings
from dataclasses import dataclass, field
from pathlib import Path

import diffusers
import torch
import torch.nn.functional as F
import transformers
from diffusers import (AutoencoderKL, DDIMScheduler, DPMSolverMultistepScheduler, PNDMScheduler, StableDiffusionPipeline,
                       UNet2DConditionModel)
from diffusers.training_utils import _collate_lora_metadata, compute_snr
from make_adapters import trained_by_key
from make_unets import ATTENTION, fan_in
from make_image_text_tokenizers import clip_config, write_vocabulary  # last: it leaves the search path without this folder
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import load_file, save_file

PIPELINES = GOLDEN / "pipelines"
WEIGHTS = "diffusion_pytorch_model.safetensors"
MERGES = [("p", "h"), ("ph", "o"), ("t", "o</w>"), ("pho", "to</w>"), ("o", "f</w>"), ("d", "o"), ("do", "g</w>")]
TEXTS = ["a photo of sks dog", "A  Dog!", "", "photo of " * 60]
PROMPT, NEGATIVE, GUIDANCE, STEPS = "a photo of sks dog", "photo", 7.5, 6
STABLE = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "num_train_timesteps": 1000,
          "skip_prk_steps": True, "steps_offset": 1, "set_alpha_to_one": False}
CLIP_ATTENTION = ["q_proj", "k_proj", "v_proj", "out_proj"]  # of train_dreambooth_lora.py
SAMPLERS = {"ddim": DDIMScheduler, "dpmsolver++": DPMSolverMultistepScheduler}
warnings.filterwarnings("ignore")
diffusers.utils.logging.set_verbosity_error()
diffusers.utils.logging.disable_progress_bar()


@dataclass
class Pipeline:
    name: str
    shows: str
    pad: str
    unet: dict
    vae: dict
    text: dict
    scheduler: dict = field(default_factory=dict)


@dataclass
class Adapter:
    name: str
    base: str
    shows: str
    prior_loss_weight: float = 0   # 0: rows have no picture of their class
    snr_gamma: float = 0
    text_encoder: bool = False     # is trained too: --train_text_encoder


def pipelines():
    unet = {"block_out_channels": [4, 4], "layers_per_block": 1, "norm_num_groups": 2, "sample_size": 8, "in_channels": 4,
            "out_channels": 4, "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
            "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"]}
    vae = {"block_out_channels": [4, 6], "layers_per_block": 1, "norm_num_groups": 2, "sample_size": 16,
           "down_block_types": ["DownEncoderBlock2D"] * 2, "up_block_types": ["UpDecoderBlock2D"] * 2}
    text = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 12}
    yield Pipeline("first", "Stable Diffusion 1: texts filled with their end, quick_gelu, noise is said", "<|endoftext|>",
                   {**unet, "cross_attention_dim": 8, "attention_head_dim": 2}, vae, {**text, "hidden_act": "quick_gelu"})
    yield Pipeline("second", "Stable Diffusion 2: texts filled with '!', gelu, velocities; an autoencoder without the "
                             "convolutions at its latents, three stages, grey", "!",
                   {**unet, "cross_attention_dim": 6, "attention_head_dim": [1, 4], "use_linear_projection": True},
                   {**vae, "block_out_channels": [4, 4, 6], "down_block_types": ["DownEncoderBlock2D"] * 3,
                    "up_block_types": ["UpDecoderBlock2D"] * 3, "use_quant_conv": False, "use_post_quant_conv": False,
                    "scaling_factor": 0.7, "in_channels": 1, "out_channels": 1, "sample_size": 32},
                   {**text, "hidden_size": 6, "hidden_act": "gelu", "num_hidden_layers": 1},
                   {"prediction_type": "v_prediction"})


def adapters():
    yield Adapter("first_prior", "first", "DreamBooth's loss with pictures of the class", prior_loss_weight=0.7)
    yield Adapter("first_texts", "first", "DreamBooth with --train_text_encoder, as diffusers saves it", prior_loss_weight=0.7,
                  text_encoder=True)
    yield Adapter("second_snr", "second", "velocities weighted by min-SNR", snr_gamma=5)


def randomise(model, name):
    rng = generator(name)
    with torch.no_grad():
        for key, value in model.named_parameters():
            if key.endswith("bias"):
                value.copy_(normal(value.shape, 0.3, rng))
            elif "norm" in key:
                value.copy_(normal(value.shape, 0.3, rng, mean=1.0))
            else:
                value.copy_(normal(value.shape, 1.4 * fan_in(value) ** -0.5, rng))
    return model.float().eval()


def write_tokenizer(folder, pad):
    """As the pipelines on the hub have it: without tokenizer.json."""
    folder.mkdir(parents=True)
    vocabulary = write_vocabulary(folder, MERGES)
    save_json(folder / "tokenizer_config.json", clip_config(pad))
    return transformers.AutoTokenizer.from_pretrained(folder), len(vocabulary)


def load(name):
    return StableDiffusionPipeline.from_pretrained(PIPELINES / name, torch_dtype=torch.float32)


def write_parts(case):
    folder = PIPELINES / case.name
    shutil.rmtree(folder, ignore_errors=True)
    tokenizer, size = write_tokenizer(folder / "tokenizer", case.pad)
    text = transformers.CLIPTextModel(transformers.CLIPTextConfig(
        vocab_size=size, max_position_embeddings=77, eos_token_id=2, bos_token_id=0, pad_token_id=1, **case.text))
    pipeline = StableDiffusionPipeline(
        vae=randomise(AutoencoderKL(**case.vae), case.name + " vae"), text_encoder=randomise(text, case.name + " text"),
        tokenizer=tokenizer, unet=randomise(UNet2DConditionModel(**case.unet), case.name + " unet"),
        scheduler=PNDMScheduler(**STABLE, **case.scheduler), safety_checker=None, feature_extractor=None)
    with tempfile.TemporaryDirectory() as saved:
        pipeline.save_pretrained(saved)
        for part in ("model_index.json", "vae", "text_encoder", "unet", "scheduler"):
            source = Path(saved) / part
            if source.is_dir():
                shutil.copytree(source, folder / part, copy_function=shutil.copyfile)
            else:
                shutil.copyfile(source, folder / part)


def encoded(vae, pixels):
    distribution = vae.encode(pixels).latent_dist
    scale = vae.config.scaling_factor
    return {"mean": distribution.mean * scale, "deviation": distribution.std * scale}


def require_old_names(case, pixels, expected):
    """diffusers reads the names of its first versions as ours are read."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        vae = PIPELINES / case.name / "vae"
        shutil.copy(vae / "config.json", folder)
        old = load_file(vae / WEIGHTS)
        for new, name in (("to_q", "query"), ("to_k", "key"), ("to_v", "value"), ("to_out.0", "proj_attn")):
            old = {key.replace(f".{new}.", f".{name}."): value for key, value in old.items()}
        save_file(old, folder / WEIGHTS, metadata={"format": "pt"})
        require_equal("old names", expected, encoded(AutoencoderKL.from_pretrained(folder).eval(), pixels)["mean"], at_most=0)


def zeroed(model, part):
    for key, value in model.named_parameters():
        if part in key:
            value.data.zero_()
    return model.eval()


def parts_of(case, pipeline):
    rng = generator(case.name + " parts")
    vae, channels = pipeline.vae, case.vae.get("in_channels", 3)
    pixels = normal((2, channels, 16, 24), 1.0, rng).clamp(-1, 1)
    factor = 2 ** (len(case.vae["block_out_channels"]) - 1)
    latents = normal((2, 4, 16 // factor, 24 // factor), 1.0, rng)
    scaled = latents / vae.config.scaling_factor
    tensors = {"pixels": pixels, "latents": latents, **encoded(vae, pixels), "decoded": vae.decode(scaled).sample}
    tokenizer = pipeline.tokenizer
    assert tokenizer.pad_token == case.pad, tokenizer.pad_token
    tensors["ids"] = tokenizer(TEXTS, padding="max_length", max_length=tokenizer.model_max_length, truncation=True,
                               return_tensors="pt").input_ids
    tensors["states"] = pipeline.text_encoder(tensors["ids"])[0]
    require_old_names(case, pixels, tensors["mean"])
    attention = zeroed(load(case.name).vae, "attentions.0.to_out")
    require_moved(f"{case.name}: attention of the encoder", tensors["mean"], encoded(attention, pixels)["mean"])
    require_moved(f"{case.name}: attention of the decoder", tensors["decoded"], attention.decode(scaled).sample)
    double = load(case.name)
    double.vae.double(), double.text_encoder.double()
    tensors |= {f"{key}64": value for key, value in encoded(double.vae, pixels.double()).items()}
    tensors["decoded64"] = double.vae.decode(latents.double() / vae.config.scaling_factor).sample
    tensors["states64"] = double.text_encoder(tensors["ids"])[0]
    return tensors


def pictures_of(case, pipeline):
    """The pipeline's own run, with a prompt and another one to lead away from."""
    noise = normal((1, 4, 8, 8), 1.0, generator(case.name + " noise"))
    tensors = {"noise": noise}
    for name, kind in SAMPLERS.items():
        pipeline.scheduler = kind.from_config(pipeline.scheduler.config)
        trail = []

        def keep(_, step, time, values):
            trail.append(values["latents"].clone())
            return values
        picture = pipeline(PROMPT, negative_prompt=NEGATIVE, guidance_scale=GUIDANCE, num_inference_steps=STEPS,
                           latents=noise.clone(), output_type="np", callback_on_step_end=keep)
        tensors |= {f"{name}.trail": torch.stack(trail), f"{name}.picture": torch.from_numpy(picture.images.copy())}
        plain = pipeline(PROMPT, guidance_scale=1.0, num_inference_steps=STEPS, latents=noise.clone(), output_type="latent")
        tensors[f"{name}.unguided"] = plain.images
        require_moved(f"{case.name}: guidance by {name}", trail[-1], plain.images)
    return tensors


def write_pipeline(case):
    write_parts(case)
    pipeline = load(case.name)
    pipeline.set_progress_bar_config(disable=True)
    with torch.no_grad():
        tensors = {**parts_of(case, pipeline), **pictures_of(case, pipeline)}
    folder = PIPELINES / case.name
    save_tensors(folder / "io.safetensors", tensors, __file__, case.name)
    save_json(folder / "case.json", {"name": case.name, "shows": case.shows, "texts": TEXTS, "prompt": PROMPT,
                                     "negative_prompt": NEGATIVE, "guidance_scale": GUIDANCE, "num_inference_steps": STEPS,
                                     "provenance": {**provenance(__file__, case.name), "diffusers": diffusers.__version__}})


def loss_of(case, unet, scheduler, batch, text_encoder=None):
    """The lines of train_dreambooth_lora.py with pictures of the class, else of train_text_to_image_lora.py."""
    noisy = scheduler.add_noise(batch["latents"].double(), batch["noise"].double(), batch["timesteps"])
    states = text_encoder(batch["input_ids"])[0] if text_encoder else batch["encoder_hidden_states"].double()
    said = unet(noisy, batch["timesteps"], states).sample
    target = batch["noise"].double()
    if scheduler.config.prediction_type == "v_prediction":
        target = scheduler.get_velocity(batch["latents"].double(), target, batch["timesteps"])
    if case.prior_loss_weight > 0:
        said, said_prior = torch.chunk(said, 2, dim=0)
        target, target_prior = torch.chunk(target, 2, dim=0)
        return F.mse_loss(said, target) + case.prior_loss_weight * F.mse_loss(said_prior, target_prior)
    snr = compute_snr(scheduler, batch["timesteps"])
    weights = torch.stack([snr, case.snr_gamma * torch.ones_like(batch["timesteps"])], dim=1).min(dim=1)[0] / (snr + 1)
    loss = F.mse_loss(said, target, reduction="none")
    return (loss.mean(dim=list(range(1, loss.dim()))) * weights).mean()


def batch_of(case, name):
    rng, width = generator(name), CASES[case.base].unet["cross_attention_dim"]
    batch = {"latents": normal((4, 4, 8, 8), 1.0, rng), "noise": normal((4, 4, 8, 8), 1.0, rng),
             "timesteps": torch.randint(0, 1000, (4,), generator=rng)}
    if not case.text_encoder:
        return {**batch, "encoder_hidden_states": normal((4, 7, width), 1.0, rng)}
    tokenizer = load(case.base).tokenizer
    texts = [TEXTS[i] for i in torch.randint(0, len(TEXTS), (4,), generator=rng)]
    return {**batch, "input_ids": tokenizer(texts, padding="max_length", max_length=tokenizer.model_max_length,
                                            truncation=True, return_tensors="pt").input_ids}


def save_record(case, folder, trained, loss, batches):
    tensors = {**batches[0], **{f"batch1.{key}": value for key, value in batches[1].items()}}
    tensors |= training_record(trained, loss, batches)
    save_tensors(folder / "io.safetensors", tensors, __file__, case.name)
    save_json(folder / "case.json", {"name": case.name, "base": case.base, "shows": case.shows, "optimizer": OPTIMIZER,
                                     "prior_loss_weight": case.prior_loss_weight, "snr_gamma": case.snr_gamma,
                                     "provenance": {**provenance(__file__, case.name), "diffusers": diffusers.__version__}})


def layers_of(adapted):
    """As diffusers' training scripts hand an adapter to save_lora_weights."""
    return {key.removeprefix("base_model.model."): value for key, value in get_peft_model_state_dict(adapted).items()}


def write_adapter_of_both(case):
    """As train_dreambooth_lora.py adapts and saves UNet and text encoder. The record names the text encoder's tensors below
    text_encoder."""
    folder = PIPELINES / case.name
    shutil.rmtree(folder, ignore_errors=True)
    pipeline = load(case.base)
    unet = get_peft_model(pipeline.unet, LoraConfig(r=2, lora_alpha=3, target_modules=ATTENTION)).eval()
    text_encoder = get_peft_model(pipeline.text_encoder, LoraConfig(r=2, lora_alpha=3, target_modules=CLIP_ATTENTION)).eval()
    trained = trained_by_key(unet) | {key.replace("model.model.", "model.model.text_encoder."): value
                                      for key, value in trained_by_key(text_encoder).items()}
    rng = generator(case.name)
    with torch.no_grad():
        for _, value in sorted(trained.items()):
            value.copy_(normal(value.shape, 0.3, rng))
    for adapted in (unet, text_encoder):
        adapted.peft_config["default"].base_model_name_or_path = None  # else a path of this machine
    StableDiffusionPipeline.save_lora_weights(
        folder, unet_lora_layers=layers_of(unet), text_encoder_lora_layers=layers_of(text_encoder),
        **_collate_lora_metadata({"unet": unet, "text_encoder": text_encoder}))
    unet.double(), text_encoder.double()  # in place: `trained` are the same parameters
    scheduler = diffusers.DDPMScheduler.from_config(pipeline.scheduler.config)
    batches = [batch_of(case, f"{case.name} batch {i}") for i in range(2)]
    save_record(case, folder, trained, lambda batch: loss_of(case, unet, scheduler, batch, text_encoder), batches)


def write_adapter(case):
    folder = PIPELINES / case.name
    shutil.rmtree(folder, ignore_errors=True)
    pipeline = load(case.base)
    scheduler = diffusers.DDPMScheduler.from_config(pipeline.scheduler.config)
    model = get_peft_model(pipeline.unet, LoraConfig(r=2, lora_alpha=2, target_modules=ATTENTION)).eval()
    rng = generator(case.name)
    with torch.no_grad():
        for _, value in sorted(trained_by_key(model).items()):
            value.copy_(normal(value.shape, 0.3, rng))
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    model = PeftModel.from_pretrained(load(case.base).unet, folder, is_trainable=True).eval().double()
    batches = [batch_of(case, f"{case.name} batch {i}") for i in range(2)]
    save_record(case, folder, trained_by_key(model), lambda batch: loss_of(case, model, scheduler, batch), batches)


CASES = {case.name: case for case in pipelines()}


def main():
    only = sys.argv[1:]
    for case in CASES.values():
        if not only or case.name in only:
            write_pipeline(case)
            print(f"  {case.name}", flush=True)
    for case in adapters():
        if not only or case.name in only:
            (write_adapter_of_both if case.text_encoder else write_adapter)(case)
            print(f"  {case.name}", flush=True)


if __name__ == "__main__":
    main()
