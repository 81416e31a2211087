"""Writes the encoders of tests/golden/models: tiny Hugging Face checkpoints, inputs and the outputs of transformers."""
from common import (MODELS, generator, inputs_of, labels_for, load_base, logits_of, make_batch, moved, normal,
                    randomise, require_equal, require_moved, save_json, save_tensors, task_loss)

import json
import shutil

import torch
from safetensors.torch import load_file, save_file
from transformers import (BertConfig, BertForSequenceClassification, BertModel, RobertaConfig, RobertaForMaskedLM,
                          RobertaForSequenceClassification)

SHAPE = {"vocab_size": 61, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4,
         "intermediate_size": 40, "max_position_embeddings": 40}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
NAMES = {0: "negative", 1: "neutral", 2: "positive"}


def bert(**changes):
    return BertConfig(**{**SHAPE, **NO_DROPOUT, "type_vocab_size": 2, **changes})


def roberta(**changes):
    return RobertaConfig(**{**SHAPE, **NO_DROPOUT, "type_vocab_size": 1, "pad_token_id": 1, "bos_token_id": 0,
                            "eos_token_id": 2, **changes})


def three_labels():
    return {"id2label": NAMES, "label2id": {v: k for k, v in NAMES.items()}}


HEADED = {
    "bert_cls": bert(**three_labels()),
    "bert_reg": bert(num_labels=1),
    "bert_relu": bert(num_labels=2, hidden_act="relu"),
    "bert_gelu_new": bert(num_labels=2, hidden_act="gelu_new", layer_norm_eps=0.05, hidden_dropout_prob=0.1,
                          attention_probs_dropout_prob=0.2, classifier_dropout=0.3),
    "roberta_cls": roberta(num_labels=3),
    "roberta_reg": roberta(num_labels=1, layer_norm_eps=0.02),
}
REWRITTEN = ["bert_sharded", "bert_legacy", "bert_bf16", "bert_f16"]


def check_features(name, model, batch, logits):
    """Every feature of the input and the configuration must show."""
    def without(**changes):
        return logits_of(model, {**batch, **changes})

    require_moved(f"{name} attention_mask", logits, without(attention_mask=torch.ones_like(batch["attention_mask"])))
    if "token_type_ids" in batch:
        require_moved(f"{name} token_type_ids", logits, without(token_type_ids=torch.zeros_like(batch["input_ids"])))
    else:
        plain = torch.arange(batch["input_ids"].shape[1]).expand_as(batch["input_ids"])
        require_moved(f"{name} position offset", logits, without(position_ids=plain))
    if model.config.layer_norm_eps > 1e-4:
        require_moved(f"{name} layer_norm_eps", logits, logits_of(load_base(name, layer_norm_eps=1e-12), batch))
    if model.config.hidden_act != "gelu":
        found = moved(logits, logits_of(load_base(name, hidden_act="gelu"), batch))
        least = 1 if model.config.hidden_act == "gelu_new" else 100  # the two GELUs differ by 5e-4 at most
        assert found >= least, f"{name}: the activation moves the logits by only {found:.1f} tolerances"
        print(f"  {name}: {model.config.hidden_act} against gelu {found:.0f} tolerances")


def write_io(name, batch, model=None):
    model = model or load_base(name)
    logits = logits_of(model, batch)
    check_features(name, model, batch, logits)
    double = model.double()
    logits64 = logits_of(double, batch)
    require_equal(f"{name} float64", logits, logits64)
    loss = double(**inputs_of(batch), labels=labels_for(batch, torch.float64)).loss
    assert torch.allclose(loss, task_loss(logits64, batch))
    save_tensors(MODELS / name / "io.safetensors",
                 {**batch, "logits": logits, "logits64": logits64, "loss64": loss.reshape(1)}, __file__, name)


def rewrite(name, change, **type_key):
    """bert_cls again under another name, its tensors changed."""
    folder = MODELS / name
    config = json.loads((MODELS / "bert_cls" / "config.json").read_text())
    del config["dtype"]
    save_json(folder / "config.json", {**config, **type_key})
    tensors = change(load_file(MODELS / "bert_cls" / "model.safetensors"))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def legacy_names(tensors):
    old = {k.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): v
           for k, v in tensors.items()}
    return {**old, "bert.embeddings.position_ids": torch.arange(SHAPE["max_position_embeddings"]).unsqueeze(0)}


def write_headless():
    """Checkpoints without a classification head; io.safetensors brings one, under the names it has in the model."""
    for name, model, kind in (("bert_base", BertModel(bert(num_labels=3)), BertForSequenceClassification),
                              ("roberta_mlm", RobertaForMaskedLM(roberta(num_labels=3)),
                               RobertaForSequenceClassification)):
        randomise(model, name).save_pretrained(MODELS / name)
        headed = kind.from_pretrained(MODELS / name, dtype=torch.float32, attn_implementation="eager").eval()
        headed.config.architectures = [kind.__name__]
        rng = generator(name + " head")
        head = {k: v for k, v in headed.named_parameters() if k.startswith("classifier")}
        with torch.no_grad():
            for value in head.values():
                value.copy_(normal(value.shape, 0.4, rng))
        batch = make_batch(headed.config, name + " batch")
        logits = logits_of(headed, batch)
        body = headed.base_model(**inputs_of(batch))
        outputs = {"logits": logits, "last_hidden_state": body.last_hidden_state}
        if body.get("pooler_output") is not None:
            outputs["pooler_output"] = body.pooler_output
        tensors = {k: v.clone() for k, v in head.items()}
        double = headed.double()
        outputs["logits64"] = logits_of(double, batch)
        outputs["last_hidden_state64"] = double.base_model(**inputs_of(batch)).last_hidden_state
        save_tensors(MODELS / name / "io.safetensors", {**batch, **tensors, **outputs}, __file__, name)


def main():
    for name in [*HEADED, "bert_base", "roberta_mlm", *REWRITTEN]:
        shutil.rmtree(MODELS / name, ignore_errors=True)
    for name, config in HEADED.items():
        kind = BertForSequenceClassification if name.startswith("bert") else RobertaForSequenceClassification
        randomise(kind(config), name).save_pretrained(MODELS / name)
        write_io(name, make_batch(config, name + " batch"))
    write_headless()

    batch = make_batch(HEADED["bert_cls"], "bert_cls batch")
    load_base("bert_cls").save_pretrained(MODELS / "bert_sharded", max_shard_size="12KB")
    index = json.loads((MODELS / "bert_sharded" / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) >= 2
    rewrite("bert_legacy", legacy_names, torch_dtype="float32")
    rewrite("bert_bf16", lambda tensors: {k: v.bfloat16() for k, v in tensors.items()}, dtype="bfloat16")
    rewrite("bert_f16", lambda tensors: {k: v.half() for k, v in tensors.items()}, torch_dtype="float16")
    for name in REWRITTEN:
        write_io(name, batch)
    same = logits_of(load_base("bert_cls"), batch)
    for name in ("bert_sharded", "bert_legacy"):
        assert torch.equal(same, logits_of(load_base(name), batch)), name
    require_moved("bert_bf16 rounding", same, logits_of(load_base("bert_bf16"), batch), at_least=10)


if __name__ == "__main__":
    main()
