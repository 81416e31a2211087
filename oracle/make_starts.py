"""Writes tests/golden/starts: the factors that PEFT starts from where they follow from data, and that data."""
from common import (GOLDEN, inputs_of, load_base, make_batch, provenance, save_json, save_tensors, seed_of, task_loss)

import shutil
import warnings
from dataclasses import dataclass

import torch
from peft import EvaConfig, LoraConfig, LoraGAConfig, get_peft_model, initialize_lora_eva_weights
from peft.tuners.lora.config import CordaConfig
from peft.tuners.lora.corda import preprocess_corda
from peft.tuners.lora.loraga import preprocess_loraga

STARTS = GOLDEN / "starts"
SIX = ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"]
ONE, TWO, ROW = [[12, 9, 5, 7]], [[12, 9, 5, 7], [6, 10, 10, 8]], [[38]]
warnings.filterwarnings("ignore")


@dataclass
class Start:
    name: str
    base: str
    config: LoraConfig
    lengths: list  # of the rows of each calibration batch

    def batches(self, model):
        return [make_batch(model.config, f"{self.name} calibration {i}", n) for i, n in enumerate(self.lengths)]


def starts():
    def lora(**options):
        return LoraConfig(**{"task_type": "SEQ_CLS", "r": 4, "lora_alpha": 6, "target_modules": SIX, **options})

    def eva(**options):
        return {"init_lora_weights": "eva", "eva_config": EvaConfig(**options)}

    def corda(**options):
        return {"init_lora_weights": "corda", "corda_config": CordaConfig(**options)}

    def lora_ga(**options):
        return {"init_lora_weights": "lora_ga", "lora_ga_config": LoraGAConfig(**options)}

    # PEFT takes EVA's components batch by batch, and normalises CorDA's inputs row by row: with one of them the numbers
    # are those of all the data together.
    yield Start("eva", "bert_cls", lora(r=3, **eva()), ONE)
    yield Start("eva_left_out", "roberta_cls", lora(r=1, **eva(rho=4.0, adjust_scaling_factors=False)), [[20, 20]])
    yield Start("eva_even", "bert_reg", lora(target_modules=["key", "output.dense"], **eva(rho=1.0)), ONE)
    yield Start("corda_ipm", "bert_cls", lora(**corda()), ROW)
    yield Start("corda_kpm", "roberta_reg", lora(r=3, target_modules=["query", "intermediate.dense", "output.dense"],
                                                 use_rslora=True, **corda(corda_method="kpm")), ROW)
    yield Start("lora_ga", "bert_cls", lora(**lora_ga()), TWO)
    yield Start("lora_ga_weight_svd", "bert_reg", lora(target_modules=["query", "output.dense"], use_rslora=True,
                                                       **lora_ga(direction="A2rBr", scale="weight_svd")), TWO)
    yield Start("lora_ga_gd_scale", "roberta_cls", lora(target_modules=["value", "intermediate.dense"],
                                                        **lora_ga(direction="ArBr", scale="gd_scale")), TWO)


def start_model(start):
    """A model under the start, as PEFT makes it, and the base's batches."""
    torch.manual_seed(seed_of(start.name))
    base, config = load_base(start.base), start.config
    batches = start.batches(base)

    def run():
        for batch in batches:
            base(**inputs_of(batch))

    def learn():
        for batch in batches:
            task_loss(base(**inputs_of(batch)).logits, batch).backward()

    if config.init_lora_weights == "corda":
        preprocess_corda(base, config, run_model=run)
    if config.init_lora_weights == "lora_ga":
        preprocess_loraga(base, config, train_step=learn)
    model = get_peft_model(base, config)
    if config.init_lora_weights == "eva":
        initialize_lora_eva_weights(model, [inputs_of(batch) for batch in batches], show_progress_bar=False)
    return model.eval(), batches


def write_start(start):
    given = start.config.to_dict()
    options = {k: given[k] for k in ("r", "lora_alpha", "target_modules", "exclude_modules", "rank_pattern",
                                     "use_rslora", "init_lora_weights", "eva_config", "corda_config",
                                     "lora_ga_config") if given[k]}
    options = {k: sorted(v) if isinstance(v, set) else v for k, v in options.items()}
    model, batches = start_model(start)
    tensors = {f"batch{i}.{key}": value for i, batch in enumerate(batches) for key, value in batch.items()}
    for name, layer in model.named_modules():
        if not hasattr(layer, "lora_A") or "default" not in layer.lora_A:
            continue
        module = name.removeprefix("base_model.model.")
        tensors[f"{module}.lora_A"] = layer.lora_A["default"].weight
        tensors[f"{module}.lora_B"] = layer.lora_B["default"].weight
        tensors[f"{module}.scale"] = torch.tensor([layer.scaling["default"]], dtype=torch.float64)
    settled = model.peft_config["default"]
    save_tensors(STARTS / start.name / "io.safetensors", tensors, __file__, start.name)
    save_json(STARTS / start.name / "case.json", {
        "name": start.name, "base": start.base, "options": options, "batches": len(batches),
        "rank_pattern": settled.rank_pattern, "alpha_pattern": settled.alpha_pattern,
        "provenance": provenance(__file__, start.name)})


def main():
    shutil.rmtree(STARTS, ignore_errors=True)
    for start in starts():
        write_start(start)
        print(f"  {start.name}")


if __name__ == "__main__":
    main()
