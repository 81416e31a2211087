"""Writes tests/golden/schedulers: configurations of diffusers' schedulers, and what diffusers makes of them: the schedule,
the times, every step of each sampler from the same noise and the same model outputs, noisy pictures, targets, weights and
losses as in its training scripts.

Needs packages that no other script does: python3 -m venv V && V/bin/pip install diffusers==0.42.1 torch==2.13.0 numpy
safetensors && V/bin/python oracle/make_schedulers.py."""
import json
import pathlib
import tempfile

import diffusers
import torch
import torch.nn.functional as F
from diffusers.schedulers import scheduling_ddpm
from diffusers.training_utils import compute_snr
from safetensors.torch import save_file

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden" / "schedulers"
SAMPLERS = {
    "ddpm": diffusers.DDPMScheduler,
    "ddim": diffusers.DDIMScheduler,
    "dpmsolver++": diffusers.DPMSolverMultistepScheduler,
}
SD = dict(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012, clip_sample=False, set_alpha_to_one=False,
          skip_prk_steps=True, steps_offset=1)
ZERO_SNR = dict(SD, rescale_betas_zero_snr=True, timestep_spacing="trailing", prediction_type="v_prediction")
COSINE = dict(beta_schedule="squaredcos_cap_v2", num_train_timesteps=100)
BETAS = [0.01 * (i + 1) for i in range(20)]

# name: (class of the file, its keys, sampler, steps, eta)
CASES = {
    "ddpm": ("DDPMScheduler", {}, "ddpm", 10, 0),
    "ddpm_all": ("DDPMScheduler", dict(num_train_timesteps=24, beta_end=0.2), "ddpm", 24, 0),
    "ddpm_large": ("DDPMScheduler", dict(COSINE, variance_type="fixed_large", prediction_type="v_prediction",
                                         timestep_spacing="linspace"), "ddpm", 7, 0),
    "ddpm_log": ("DDPMScheduler", dict(variance_type="fixed_small_log", prediction_type="sample", clip_sample_range=0.4,
                                       timestep_spacing="trailing"), "ddpm", 6, 0),
    "ddpm_betas": ("DDPMScheduler", dict(trained_betas=BETAS, num_train_timesteps=20, clip_sample=False), "ddpm", 9, 0),
    "ddim": ("DDIMScheduler", {}, "ddim", 8, 0),
    "ddim_eta": ("DDIMScheduler", dict(num_train_timesteps=100, prediction_type="sample"), "ddim", 8, 0.7),
    "ddim_of_ddpm": ("DDPMScheduler", dict(COSINE, timestep_spacing="linspace"), "ddim", 6, 1),
    "ddim_sd": ("PNDMScheduler", SD, "ddim", 11, 0),
    "ddim_zero_snr": ("DDIMScheduler", ZERO_SNR, "ddim", 7, 0),
    "dpm": ("DPMSolverMultistepScheduler", {}, "dpmsolver++", 8, 0),
    "dpm_sd": ("PNDMScheduler", SD, "dpmsolver++", 20, 0),
    "dpm_leading": ("DDIMScheduler", dict(SD, timestep_spacing="leading", prediction_type="v_prediction"), "dpmsolver++",
                    5, 0),
    "dpm_karras": ("DPMSolverMultistepScheduler", dict(SD, use_karras_sigmas=True), "dpmsolver++", 16, 0),
    "dpm_karras_cosine": ("DPMSolverMultistepScheduler", dict(COSINE, use_karras_sigmas=True), "dpmsolver++", 5, 0),
    "dpm_zero_snr": ("DPMSolverMultistepScheduler", ZERO_SNR, "dpmsolver++", 6, 0),
    "dpm_sigma_min": ("DPMSolverMultistepScheduler", dict(final_sigmas_type="sigma_min", prediction_type="sample"),
                      "dpmsolver++", 18, 0),
    "dpm_few_sigma_min": ("DPMSolverMultistepScheduler", dict(final_sigmas_type="sigma_min"), "dpmsolver++", 5, 0),
    "dpm_high_order": ("DPMSolverMultistepScheduler", dict(final_sigmas_type="sigma_min", lower_order_final=False),
                       "dpmsolver++", 5, 0),
    "dpm_of_euler": ("EulerDiscreteScheduler", dict(SD, timestep_spacing="leading", interpolation_type="linear",
                                                    timestep_type="discrete"), "dpmsolver++", 7, 0),
    "dpm_of_unipc": ("UniPCMultistepScheduler", dict(SD, solver_type="bh2", use_karras_sigmas=True), "dpmsolver++", 6, 0),
    "dpm_of_deis": ("DEISMultistepScheduler", dict(algorithm_type="deis", solver_type="logrho",
                                                   final_sigmas_type="sigma_min", prediction_type="v_prediction"),
                    "dpmsolver++", 5, 0),
    "dpm_clipped": ("DPMSolverMultistepScheduler", dict(COSINE, lambda_min_clipped=-2.5), "dpmsolver++", 6, 0),
}

generator = torch.Generator().manual_seed(27)
START = torch.randn(2, 1, 3, 3, generator=generator)
OUTPUTS = torch.randn(5, 2, 1, 3, 3, generator=generator)
NOISES = torch.randn(4, 2, 1, 3, 3, generator=generator)


def run(config, sampler, steps, eta):
    scheduler = SAMPLERS[sampler].from_config(config)
    scheduler.set_timesteps(steps)
    sample, trail = START, []
    for step, time in enumerate(scheduler.timesteps):
        output = 0.5 * sample + OUTPUTS[step % len(OUTPUTS)]
        noise = NOISES[step % len(NOISES)]
        if sampler == "ddpm":
            scheduling_ddpm.randn_tensor = lambda *_, noise=noise, **__: noise
            sample = scheduler.step(output, time, sample).prev_sample
        elif sampler == "ddim":
            more = dict(eta=eta, variance_noise=noise) if eta > 0 else {}
            sample = scheduler.step(output, time, sample, **more).prev_sample
        else:
            sample = scheduler.step(output, time, sample).prev_sample
        trail.append(sample)
    return scheduler, torch.stack(trail)


def training(prefix, prediction, tensors):
    """The lines of train_text_to_image.py on noise, targets and the loss."""
    scheduler = diffusers.DDPMScheduler(prediction_type=prediction)
    draw = torch.Generator().manual_seed(5)
    latents, noise, model_pred = (torch.randn(4, 2, 3, 3, generator=draw) for _ in range(3))
    timesteps = torch.tensor([0, 13, 500, 999])
    noisy = scheduler.add_noise(latents, noise, timesteps)
    target = {"epsilon": noise, "v_prediction": scheduler.get_velocity(latents, noise, timesteps),
              "sample": latents}[prediction]
    snr = compute_snr(scheduler, timesteps)
    weights = torch.stack([snr, 5.0 * torch.ones_like(timesteps)], dim=1).min(dim=1)[0]
    if prediction == "epsilon":
        weights = weights / snr
    elif prediction == "v_prediction":
        weights = weights / (snr + 1)
    loss = F.mse_loss(model_pred.float(), target.float(), reduction="none")
    weighted = loss.mean(dim=list(range(1, len(loss.shape)))) * weights
    tensors.update({f"{prefix}.{name}": value.clone().contiguous() for name, value in dict(
        samples=latents, noise=noise, outputs=model_pred, timesteps=timesteps, noisy=noisy, target=target, snr=snr,
        weights=weights, loss=F.mse_loss(model_pred.float(), target.float(), reduction="mean"),
        weighted_loss=weighted.mean()).items()})


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    tensors = {"start": START, "outputs": OUTPUTS, "noises": NOISES}
    cases = {}
    for name, (kind, keys, sampler, steps, eta) in CASES.items():
        config = {"_class_name": kind, **keys}
        scheduler, trail = run(config, sampler, steps, eta)
        tensors[f"{name}.alphas_cumprod"] = scheduler.alphas_cumprod[::37].contiguous()
        tensors[f"{name}.timesteps"] = scheduler.timesteps.clone()
        tensors[f"{name}.trail"] = trail
        cases[name] = {"config": config, "scheduler": sampler, "num_inference_steps": steps, "eta": eta}
    for prediction in ("epsilon", "v_prediction", "sample"):
        training(f"training.{prediction}", prediction, tensors)
    save_file(tensors, FOLDER / "expected.safetensors")
    lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(case)}" for name, case in cases.items())
    (FOLDER / "cases.json").write_text("{\n" + lines + "\n}\n")
    # As diffusers writes it, with a number that is none in JSON.
    with tempfile.TemporaryDirectory() as folder:
        diffusers.DPMSolverMultistepScheduler(use_karras_sigmas=True).save_pretrained(folder)
        text = (pathlib.Path(folder) / "scheduler_config.json").read_text()
    (FOLDER / "scheduler_config.json").write_text(text)
    (FOLDER / "provenance.json").write_text(json.dumps({"by": "oracle/make_schedulers.py", "diffusers": diffusers.__version__,
                                                        "torch": torch.__version__}, indent=2) + "\n")


main()
