"""Writes contrastive.safetensors beside models of tests/golden/two_towers: images and captions, compared with each other,
under the adapters that make_clip.py wrote and with a logit_scale that trains.

Batch 0 has images and captions that all differ, and transformers' own loss. Batch 1 has images with several captions and
captions of several images, and the loss that is written out here.
"""
from common import (GOLDEN, Widened, generator, normal, rounding_only, save_tensors, training_record, widen)

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict

import make_clip
from make_clip import END, START, in_file, pairs, targeted

TOWERS = GOLDEN / "two_towers"
CASES = ("clip_quick", "siglip", "vit_bert")
ROWS = [[(i, i) for i in range(5)],                              # (image, caption)
        [(5, 5), (5, 6), (6, 6), (7, 7), (8, 5), (8, 8)]]
COUNT = 9  # of images, and of captions
LENGTHS = [10, 6, 8, 5, 9, 9, 4, 7, 6]


def load(case):
    kind = getattr(make_clip.transformers, case.kind)
    return kind.from_pretrained(TOWERS / case.name, dtype=torch.float32, attn_implementation="eager").eval()


def make_inputs(case):
    rng = generator(f"{case.name} contrastive")
    most = case.config.text_config.max_position_embeddings if case.whole_texts else max(LENGTHS)
    ids = torch.full((COUNT, most), case.padding)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(LENGTHS):
        ids[row, :length] = torch.randint(3, case.high, (length,), generator=rng)
        ids[row, 0], ids[row, length - 1] = START, END
        mask[row, :length] = 1
    return {"input_ids": ids, "attention_mask": mask, "pixel_values": normal((COUNT, 3, 8, 8), 1.0, rng)}


def batch_of(case, inputs, rows):
    images, captions = ([row[side] for row in rows] for side in (0, 1))
    batch = {"input_ids": inputs["input_ids"][captions], "pixel_values": inputs["pixel_values"][images].double()}
    if not case.whole_texts:
        batch["attention_mask"] = inputs["attention_mask"][captions]
    return batch


def written_out(logits, rows, pairwise):
    """Row i has image i and caption i; an image is right for every caption that one of the rows gives it."""
    n = len(rows)
    right = [[(image, caption) in rows for _, caption in rows] for image, _ in rows]
    if pairwise:
        return sum(-torch.log(torch.sigmoid(logits[i, j] if right[i][j] else -logits[i, j]))
                   for i in range(n) for j in range(n)) / n
    total = 0
    for i in range(n):
        over_captions, over_images = logits[i].exp().sum(), logits[:, i].exp().sum()
        captions = [j for j in range(n) if right[i][j]]
        images = [j for j in range(n) if right[j][i]]
        total -= sum(torch.log(logits[i, j].exp() / over_captions) for j in captions) / len(captions)
        total -= sum(torch.log(logits[j, i].exp() / over_images) for j in images) / len(images)
    return total / (2 * n)


def adapted(case):
    """The adapter of make_clip.py over the model, by the names of its file, and the scale."""
    model = get_peft_model(load(case), LoraConfig(r=3, lora_alpha=5, target_modules=targeted(case, load(case)))).eval()
    rng = generator(case.name + " adapter")
    names = {v.data_ptr(): k for k, v in get_peft_model_state_dict(model).items()}
    trained = {names[p.data_ptr()]: p for _, p in model.named_parameters() if p.requires_grad}
    with torch.no_grad():
        for key in sorted(trained):
            trained[key].copy_(normal(trained[key].shape, 0.3, rng))
    scale = model.base_model.model.logit_scale.requires_grad_()
    return model, {in_file(case, key): value for key, value in trained.items()} | {"logit_scale": scale}


def write_case(case):
    inputs = make_inputs(case)
    model, trained = adapted(case)
    batches = [(rows, batch_of(case, inputs, rows)) for rows in ROWS]

    def loss_of(given):
        rows, batch = given
        output = model(**batch, return_loss=True)
        own = written_out(output.logits_per_image, rows, case.kind == "SiglipModel")
        if rows is ROWS[1]:
            return own
        assert (own - output.loss).abs() < 1e-12, "the formula is not transformers' where all captions differ"
        return output.loss

    with Widened():
        widen(model)
        record = training_record(trained, loss_of, batches)
        several = loss_of(batches[1])
        grads = dict(zip(trained, torch.autograd.grad(several, list(trained.values()))))
    assert not rounding_only(grads) and not rounding_only({k: v for k, v in record.items() if k.startswith("grad.")})
    record |= {"several.loss64": several.detach().reshape(1)} | {f"several.grad.{k}": v for k, v in grads.items()}
    rows = torch.tensor([row for batch in ROWS for row in batch])
    record |= inputs | {"rows": rows, "padding": torch.tensor([case.padding])}
    save_tensors(TOWERS / case.name / "contrastive.safetensors", record, __file__, f"{case.name} contrastive")


def main():
    for case in pairs():
        if case.name in CASES:
            write_case(case)
            print(f"  {case.name}", flush=True)


if __name__ == "__main__":
    main()
