"""Writes the encoders of tests/golden/models that are neither BERT's nor RoBERTa's, and those with other heads."""
from common import (MODELS, Widened, generator, head_of, inputs_of, load_base, logits_of, make_batch, model_loss, moved, normal, of_text,
                    output_logits, randomise, require_equal, save_json, save_tensors, seed_of, task_loss, widen)

import json
import shutil
import sys

import torch
import transformers
from encoder_cases import GROUPS, pretrained
from safetensors.torch import load_file, save_file


def class_of(case, ending=None):
    auto = transformers.AutoModel._model_mapping[type(case.config)]
    return getattr(transformers, auto.__name__.removesuffix("Model") + (ending or case.head))


def save(case):
    """The checkpoint, as transformers saves it but for what the case has otherwise."""
    folder = MODELS / case.name
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(seed_of(case.name))
    model = class_of(case)(case.config).float()
    randomise(model, case.name).save_pretrained(folder)
    if case.written:
        save_json(folder / "config.json", case.written(json.loads((folder / "config.json").read_text())))
    if case.stored:
        path = folder / "model.safetensors"
        save_file(case.stored(load_file(path), generator(case.name + " stored")), path, metadata={"format": "pt"})


def text_logits(model, batch, **changes):
    """Logits of the batch's own text, whatever the model is given in its place."""
    with torch.no_grad():
        return of_text(output_logits(model(**{**inputs_of(batch), **changes})), batch)


def changed(case, change):
    if isinstance(change, dict):
        return load_base(case.name, **change)
    model = load_base(case.name)
    change(model)
    return model


def check_features(case, model, batch, logits):
    """Every feature of the input and the configuration shows; padding does not."""
    def shows(what, other):
        found = moved(logits, other)
        least = case.least.get(what, 100)
        assert found >= least, f"{case.name}: {what} moves the logits by only {found:.1f} tolerances"

    shows("attention_mask", text_logits(model, batch, attention_mask=torch.ones_like(batch["attention_mask"])))
    if "token_type_ids" in batch:
        shows("token_type_ids", text_logits(model, batch, token_type_ids=torch.zeros_like(batch["input_ids"])))
    for what, change in case.off:
        shows(what, text_logits(changed(case, change), batch))
    for row, length in enumerate(batch["attention_mask"].sum(1)):
        alone = text_logits(model, {k: v[row:row + 1, :length] for k, v in inputs_of(batch).items()})
        padded = logits[row:row + 1, :length] if logits.dim() == 3 else logits[row:row + 1]
        require_equal(f"{case.name}: padding of row {row}", padded, alone)


def takes_padding_on_the_left(config):
    """Positions that begin with the text, or none; a head that reads every token."""
    if config.model_type == "deberta-v2" and config.position_biased_input:
        return False
    if config.model_type not in ("deberta-v2", "modernbert", "mpnet", "roberta", "xlm-roberta"):
        return False
    return head_of(config) != "SequenceClassification" or getattr(config, "classifier_pooling", "cls") == "mean"


def from_the_left(batch, filling):
    """The rows of the batch, padded on the left."""
    moved_rows = {k: torch.full_like(v, filling if k == "input_ids" else 0) for k, v in inputs_of(batch).items()}
    for row, length in enumerate(batch["attention_mask"].sum(1)):
        for key, value in moved_rows.items():
            value[row, value.shape[1] - length:] = batch[key][row, :length]
    return moved_rows


def left_case(case, model, batch, logits):
    left = from_the_left(batch, model.config.pad_token_id)
    found = logits_of(model, left)
    text = [t["attention_mask"].bool() for t in (batch, left)]
    expected, shifted = (logits, found) if logits.dim() < 3 else (logits[text[0]], found[text[1]])
    require_equal(f"{case.name}: padding on the left", expected, shifted)
    return {f"left.{k}": v for k, v in {**left, "logits": found}.items()}


def write_case(case):
    save(case)
    model = load_base(case.name)
    assert "For" + head_of(model.config) == case.head
    batch = make_batch(model.config, case.name + " batch", case.lengths)
    logits = logits_of(model, batch)
    check_features(case, model, batch, logits)
    tensors = {**batch, "logits": logits}
    if takes_padding_on_the_left(model.config):
        tensors |= left_case(case, model, batch, logits)
    double = load_base(case.name)  # here, so that the rotary frequencies are the float32 numbers they always are
    with Widened():
        widen(double)
        tensors["logits64"] = logits_of(double, batch)
        with torch.no_grad():
            loss = model_loss(double, batch)
    require_equal(f"{case.name} float64", logits, tensors["logits64"])
    assert loss.dtype == torch.float64 and torch.allclose(loss, task_loss(tensors["logits64"], batch, shifted=False))
    save_tensors(MODELS / case.name / "io.safetensors", {**tensors, "loss64": loss.reshape(1)}, __file__, case.name)


def write_headless(case):
    """A checkpoint without a classifier; io.safetensors brings one, under the names it has in the model."""
    save(case)
    kind = class_of(case, "ForSequenceClassification")
    model, report = kind.from_pretrained(MODELS / case.name, dtype=torch.float32, attn_implementation="eager",
                                         output_loading_info=True)
    model.config.architectures = [kind.__name__]
    rng = generator(case.name + " head")
    head = {k: v for k, v in model.eval().named_parameters() if k in report["missing_keys"]}
    with torch.no_grad():
        for value in head.values():
            value.copy_(normal(value.shape, 0.4, rng))
    batch = make_batch(model.config, case.name + " batch", case.lengths)
    tensors = {**batch, **{k: v.clone() for k, v in head.items()}, "logits": logits_of(model, batch)}
    with Widened():
        tensors["logits64"] = logits_of(widen(model), batch)
    require_equal(f"{case.name} float64", tensors["logits"], tensors["logits64"])
    save_tensors(MODELS / case.name / "io.safetensors", tensors, __file__, case.name)
    print(f"  {case.name}: new are {' '.join(head)}", flush=True)


def main():
    only = sys.argv[1:]
    for case in pretrained():
        if not only or case.name in only:
            write_headless(case)
    for group in GROUPS:
        for case in group():
            if not only or case.name in only:
                write_case(case)
                print(f"  {case.name}", flush=True)


if __name__ == "__main__":
    main()
