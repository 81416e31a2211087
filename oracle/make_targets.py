"""Writes tests/golden/targets.json: which layers PEFT adapts by default, by its own tables and model_type."""
from common import GOLDEN, save_json

from peft.utils import constants

FAMILIES = ["albert", "bert", "deberta-v2", "distilbert", "electra", "gemma2", "gpt2", "llama", "mistral", "modernbert",
            "mpnet", "phi3", "qwen2", "qwen3", "roberta", "xlm-roberta"]
TABLES = {"lora_target_modules": constants.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING,
          "adalora_target_modules": constants.TRANSFORMERS_MODELS_TO_ADALORA_TARGET_MODULES_MAPPING,
          "ia3_target_modules": constants.TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING,
          "ia3_feedforward_modules": constants.TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING}

save_json(GOLDEN / "targets.json",
          {name: {family: table[family] for family in FAMILIES if family in table} for name, table in TABLES.items()})
