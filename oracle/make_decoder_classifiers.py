"""Writes the classifiers on decoders of tests/golden/models: tiny checkpoints, inputs and the outputs of transformers."""
from common import (MODELS, Widened, generator, head_of, inputs_of, labels_for, logits_of, normal, randomise,
                    require_equal, require_moved, save_tensors, seed_of, task_loss, widen)

import shutil

import torch
import transformers
from transformers import GPT2Config, LlamaConfig

LENGTHS = [9, 5, 7]
CASES = {
    "llama_cls": LlamaConfig(vocab_size=61, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
                             num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
                             rms_norm_eps=1e-5, rope_parameters={"rope_type": "default", "rope_theta": 100.0},
                             pad_token_id=0, num_labels=3, tie_word_embeddings=True),
    "gpt2_reg": GPT2Config(vocab_size=61, n_positions=32, n_embd=16, n_layer=2, n_head=2, pad_token_id=0, num_labels=1,
                           embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0),
    "llama_tokens": LlamaConfig(vocab_size=61, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
                                num_attention_heads=4, max_position_embeddings=64, pad_token_id=0, num_labels=5,
                                architectures=["LlamaForTokenClassification"]),
    "gpt2_tokens": GPT2Config(vocab_size=61, n_positions=32, n_embd=16, n_layer=2, n_head=2, pad_token_id=0,
                              num_labels=4, architectures=["GPT2ForTokenClassification"]),
}


def kind(config):
    return getattr(transformers, "AutoModelFor" + head_of(config))


def load(name, config):
    return kind(config).from_pretrained(MODELS / name, dtype=torch.float32, attn_implementation="eager").eval()


def padded_batch(config, name):
    """Random ids, padded on the right with a token that no row holds."""
    rng = generator(name)
    ids = torch.zeros((len(LENGTHS), max(LENGTHS)), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(LENGTHS):
        ids[row, :length] = torch.randint(1, config.vocab_size, (length,), generator=rng)
        mask[row, :length] = 1
    batch = {"input_ids": ids, "attention_mask": mask}
    if head_of(config) == "TokenClassification":
        labels = torch.randint(0, config.num_labels, ids.shape, generator=rng)
        return {**batch, "token_labels": labels.masked_fill(mask == 0, -100)}
    labels = (normal((len(LENGTHS),), 2.0, rng) if config.num_labels == 1 else
              torch.randint(0, config.num_labels, (len(LENGTHS),), generator=rng))
    return {**batch, "labels": labels}


def main():
    for name, config in CASES.items():
        shutil.rmtree(MODELS / name, ignore_errors=True)
        torch.manual_seed(seed_of(name))
        randomise(kind(config).from_config(config).float(), name).save_pretrained(MODELS / name)
        (MODELS / name / "generation_config.json").unlink(missing_ok=True)
        model = load(name, config)
        batch = padded_batch(config, name + " batch")
        logits = logits_of(model, batch)
        shorter = {**batch, "input_ids": batch["input_ids"].clone()}
        shorter["input_ids"][1, LENGTHS[1] - 1] = 1 + shorter["input_ids"][1, LENGTHS[1] - 1] % 60
        require_moved(f"{name}: the last token", logits[1], logits_of(model, shorter)[1])
        double = load(name, config)  # here, so that the rotary frequencies are the float32 numbers they always are
        with Widened():
            widen(double)
            logits64 = logits_of(double, batch)
            with torch.no_grad():
                loss = double(**inputs_of(batch), labels=labels_for(batch, torch.float64)).loss
        require_equal(f"{name} float64", logits, logits64)
        assert torch.allclose(loss, task_loss(logits64, batch, shifted=False))
        save_tensors(MODELS / name / "io.safetensors",
                     {**batch, "logits": logits, "logits64": logits64, "loss64": loss.reshape(1)}, __file__, name)
        print(f"  {name}")


if __name__ == "__main__":
    main()
