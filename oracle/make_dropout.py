"""tests/golden/dropout/spread.json: how far each of BERT's dropouts spreads the logits, one at a time.

One row of `bert_cls` is repeated 8,000 times in one batch of a training-mode forward pass of transformers; the standard
deviation of each logit follows from the rate. RoBERTa likewise.
"""
from common import GOLDEN, MODELS, provenance, save_json, seed_of

import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

ROWS = 8000
RATES = {"hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.2, "classifier_dropout": 0.3}


def spread(base, rates):
    """Standard deviations of the logits of row 0, every other dropout off."""
    off = {name: 0.0 for name in RATES} | rates
    model = AutoModelForSequenceClassification.from_pretrained(MODELS / base, attn_implementation="eager", **off).train()
    io = load_file(MODELS / base / "io.safetensors")
    row = {k: io[k][:1].expand(ROWS, -1) for k in ("input_ids", "attention_mask", "token_type_ids") if k in io}
    torch.manual_seed(seed_of("dropout"))
    with torch.no_grad():
        return model(**row).logits.std(0).tolist()


def main():
    cases = [{"base": base, "rates": {name: rate}, "std": spread(base, {name: rate})}
             for base in ("bert_cls", "roberta_cls") for name, rate in RATES.items()]
    save_json(GOLDEN / "dropout" / "spread.json", {"rows": ROWS, "cases": cases, "provenance": provenance(__file__, "dropout")})


if __name__ == "__main__":
    main()
