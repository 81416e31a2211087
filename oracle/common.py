"""What every fixture script shares: folders, seeded weights and inputs, the tolerance, AdamW steps, saving.
"""
import inspect
import json
import zlib
from pathlib import Path

HERE = Path(__file__).resolve().parent

import peft
import torch
import transformers
from safetensors.torch import save_file
from torch.overrides import TorchFunctionMode
from transformers import AutoConfig, AutoModelForCausalLM, BertModel, ElectraModel, RobertaModel, XLMRobertaModel

GOLDEN = HERE.parent / "tests" / "golden"
MODELS = GOLDEN / "models"
LENGTHS = [12, 9, 5, 7]
LEARNING_RATE, WEIGHT_DECAY, STEPS = 1e-2, 0.01, 10

torch.set_num_threads(1)
transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()

# transformers 5.24 calls past_key_values cache and takes it by both names; PEFT 0.21 looks for the old one in the
# signature before it runs an encoder with a prefix.
for encoder in (BertModel, ElectraModel, RobertaModel, XLMRobertaModel):
    signature = inspect.signature(encoder.forward)
    if "past_key_values" not in signature.parameters:
        encoder.forward.__signature__ = signature.replace(parameters=[
            p.replace(name="past_key_values") if p.name == "cache" else p for p in signature.parameters.values()])


def seed_of(name):
    return zlib.crc32(name.encode())


def generator(name):
    return torch.Generator().manual_seed(seed_of(name))


def normal(shape, std, rng, mean=0.0):
    return mean + std * torch.randn(shape, generator=rng)


def provenance(script, name):
    return {"script": f"oracle/{Path(script).name}", "seed": str(seed_of(name)), "torch": torch.__version__,
            "transformers": transformers.__version__, "peft": peft.__version__}


def save_tensors(path, tensors, script, name):
    path.parent.mkdir(parents=True, exist_ok=True)
    # one key only: safetensors writes several in any order
    save_file({k: v.detach().clone().contiguous() for k, v in tensors.items()}, path,
              metadata={"provenance": json.dumps(provenance(script, name))})


def save_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n")


def randomise(model, name):
    """Weights large enough that every feature of the model shows in its logits."""
    rng = generator(name)
    with torch.no_grad():
        for key, value in model.named_parameters():
            if "norm" in key.lower() or "ln_" in key:
                one = 0.0 if key.endswith("bias") or model.config.model_type.startswith("gemma") else 1.0
                value.copy_(normal(value.shape, 0.3, rng, mean=one))
            elif key.endswith("bias"):
                value.copy_(normal(value.shape, 0.3, rng))
            else:
                table = "embed" in key or "wte" in key or "wpe" in key
                value.copy_(normal(value.shape, 0.5 if table else 0.4, rng))
    return model.eval()


IMAGE_MODELS = ("deit", "dinov2", "dinov2_with_registers", "vit")
ENCODERS = ("albert", "bert", "deberta-v2", "distilbert", "electra", "modernbert", "mpnet", "roberta", "xlm-roberta",
            *IMAGE_MODELS)
# First and last token of a row, and the ids from which its words are drawn, where these are not BERT's.
FRAMES = {"roberta": (0, 2), "xlm-roberta": (0, 2), "mpnet": (0, 2), "deberta-v2": (1, 2), "modernbert": (57, 58)}
WORDS = {"modernbert": (0, 57)}
MASK_TOKEN = 4


def is_causal(config):
    return config.model_type not in ENCODERS


def head_of(config):
    """The head that a config names, by the end of its class: "SequenceClassification" where it names none."""
    architecture = (config.architectures or [""])[0]
    return next((head for head in ("TokenClassification", "MaskedLM", "QuestionAnswering", "MultipleChoice",
                                   "ImageClassification") if architecture.endswith("For" + head)), "SequenceClassification")


def load_base(name, root=MODELS, **changes):
    """A committed base model, in float32, under its bare name (no path of this machine enters a file).

    `changes` are made to its config.json.
    """
    given = json.loads((root / name / "config.json").read_text())
    if "rope_parameters" in changes:  # the older keys would go before
        given = {k: v for k, v in given.items() if k not in ("rope_scaling", "rope_theta", "partial_rotary_factor")}
    config = AutoConfig.for_model(**{**given, **changes})
    kind = AutoModelForCausalLM if is_causal(config) else getattr(transformers, "AutoModelFor" + head_of(config))
    model = kind.from_pretrained(root / name, config=config, dtype=torch.float32,
                                 attn_implementation="eager").eval()
    model.name_or_path = name
    model.config._name_or_path = name
    return stretching(model)


def stretching(model):
    """ViT and DeiT stretch their positions only where they are asked to, and then of square images alone: here they do
    for images of another size than the configuration's, as DINOv2 does."""
    if model.config.model_type in ("vit", "deit"):
        embeddings = model.base_model.embeddings
        forward, own = embeddings.forward, tuple(embeddings.image_size)

        def call(pixel_values, **kwargs):
            return forward(pixel_values,
                           **{**kwargs, "interpolate_pos_encoding": tuple(pixel_values.shape[2:]) != own})
        embeddings.forward = call
    return model


# What transformers 5 renames in memory and writes to checkpoints as it was; PEFT names modules as they are in memory.
STORED = {"vit": [(".layers.", ".encoder.layer."), (".q_proj", ".attention.query"), (".k_proj", ".attention.key"),
                  (".v_proj", ".attention.value"), (".attention.o_proj", ".attention.output.dense"),
                  (".mlp.fc1", ".intermediate.dense"), (".mlp.fc2", ".output.dense")],
          "dinov2": [(".q_proj", ".attention.query"), (".k_proj", ".attention.key"), (".v_proj", ".attention.value"),
                     (".o_proj", ".output.dense"), (".mlp.down_proj", ".mlp.weights_out")]}
STORED |= {"deit": STORED["vit"], "dinov2_with_registers": STORED["dinov2"]}


def stored_name(model_type, name):
    """The name that a checkpoint has for what transformers 5 calls `name` in memory."""
    for now, then in STORED.get(model_type, []):
        name = name.replace(now, then)
    return name


class Widened(TorchFunctionMode):
    """Float64 wherever a model asks for float32, whatever its own type: norms, softmax and losses."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        def wide(value):
            return torch.float64 if value is torch.float32 else value

        if func is torch.Tensor.float:
            func = torch.Tensor.double
        return func(*map(wide, args), **{k: wide(v) for k, v in (kwargs or {}).items()})


def widen(model):
    """The same weights in float64, to be run within Widened(); rotary angles alone stay float32, as always."""
    def narrow(forward):
        def call(*args, **kwargs):
            with torch._C.DisableTorchFunction():
                return forward(*args, **kwargs)
        return call

    for rotary in (m for m in model.double().modules() if any(k.endswith("original_inv_freq") for k in m._buffers)):
        rotary.forward = narrow(rotary.forward)
    return model


def make_batch(config, name, lengths=LENGTHS):
    """Random ids with real padding; both token types where there are two; labels as the head wants them."""
    if config.model_type in IMAGE_MODELS:
        return make_image_batch(config, name, len(lengths))
    if is_causal(config):
        return make_token_batch(config, name, lengths)
    rng = generator(name)
    start, end = FRAMES.get(config.model_type, (2, 3))
    low, high = WORDS.get(config.model_type, (5, config.vocab_size))
    ids = torch.full((len(lengths), max(lengths)), config.pad_token_id)
    types, mask = torch.zeros_like(ids), torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(low, high, (length,), generator=rng)
        ids[row, 0], ids[row, length - 1] = start, end
        types[row, length // 2:length] = 1
        mask[row, :length] = 1
    batch = {"input_ids": ids, "attention_mask": mask}
    if getattr(config, "type_vocab_size", 0) > 1:
        batch["token_type_ids"] = types
    return {**batch, **make_labels(config, batch, rng)}


def make_image_batch(config, name, rows, size=None):
    """Noise as a processor would hand it on, of `size` (height, width) or the model's own; a label each."""
    rng = generator(name)
    own = config.image_size
    height, width = size or (own if isinstance(own, (list, tuple)) else (own, own))
    batch = {"pixel_values": normal((rows, 3, height, width), 1.0, rng)}
    if config.problem_type == "multi_label_classification":
        return {**batch, "labels": (torch.rand((rows, config.num_labels), generator=rng) < 0.5).float()}
    if config.num_labels == 1:
        return {**batch, "labels": normal((rows,), 2.0, rng)}
    return {**batch, "labels": torch.randint(0, config.num_labels, (rows,), generator=rng)}


def make_labels(config, batch, rng):
    """Labels of rows, of tokens (-100: none) or spans of answers. A masked model's batch loses the tokens it is asked for."""
    head, ids, mask = head_of(config), batch["input_ids"], batch["attention_mask"]
    rows = len(ids)
    if head == "SequenceClassification":
        if config.num_labels == 1:
            return {"labels": normal((rows,), 2.0, rng)}
        return {"labels": torch.randint(0, config.num_labels, (rows,), generator=rng)}
    lengths = mask.sum(1)
    if head == "QuestionAnswering":
        ends = torch.stack([torch.randint(1, n - 1, (2,), generator=rng).sort().values for n in lengths])
        return {"start_positions": ends[:, 0].clone(), "end_positions": ends[:, 1].clone()}
    words = mask.bool() & (torch.arange(ids.shape[1]) > 0) & (torch.arange(ids.shape[1]) < lengths[:, None] - 1)
    if head == "TokenClassification":
        labels = torch.randint(0, config.num_labels, ids.shape, generator=rng)
        asked = words & (torch.rand(ids.shape, generator=rng) < 0.8)
    else:
        labels = ids.clone()
        asked = words & (torch.rand(ids.shape, generator=rng) < 0.3)
        asked[:, 1] = True
        ids[asked] = MASK_TOKEN
    return {"token_labels": labels.masked_fill(~asked, -100)}


def make_token_batch(config, name, lengths):
    """Random ids padded on the right with 0; one token or more of each row's beginning is not trained on."""
    rng = generator(name)
    ids = torch.zeros((len(lengths), max(lengths)), dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(0, config.vocab_size, (length,), generator=rng)
        mask[row, :length] = 1
        first = 1 + row % 3
        labels[row, first:length] = ids[row, first:length]
    return {"input_ids": ids, "attention_mask": mask, "token_labels": labels}


LABELS = ("labels", "token_labels", "start_positions", "end_positions")


def inputs_of(batch):
    return {k: v for k, v in batch.items() if k not in LABELS}


def labels_for(batch, dtype):
    labels = batch["token_labels" if "token_labels" in batch else "labels"]
    return labels.to(dtype) if labels.is_floating_point() else labels


def task_loss(logits, batch, shifted=True):
    """Cross-entropy of tokens, of the next ones where `shifted`; mean over starts and ends of answers, padding left
    out; of a classifier, mean squared error for one output, binary cross-entropy for several labels a row, else
    cross-entropy."""
    cross_entropy = torch.nn.functional.cross_entropy
    if "start_positions" in batch:
        text = logits.masked_fill(batch["attention_mask"].unsqueeze(-1) == 0, -torch.inf)
        return (cross_entropy(text[..., 0], batch["start_positions"]) +
                cross_entropy(text[..., 1], batch["end_positions"])) / 2
    labels = labels_for(batch, logits.dtype)
    if "token_labels" in batch and shifted:
        return cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    if "token_labels" in batch:
        return cross_entropy(logits.flatten(0, 1), labels.flatten())
    if labels.dim() == 2:
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
    if labels.is_floating_point():
        return torch.nn.functional.mse_loss(logits.squeeze(-1), labels)
    return cross_entropy(logits, labels)


def of_text(logits, batch):
    """Of a model with logits for each token those of the text, without virtual tokens and zero on padding; else all."""
    if logits.dim() < 3:
        return logits
    mask = batch["attention_mask"]
    return logits[:, -mask.shape[1]:].masked_fill(mask.unsqueeze(-1) == 0, 0)


def output_logits(output):
    """[batch, labels], [batch, seq, labels or vocabulary], or [batch, seq, 2] for the starts and ends of answers."""
    if "start_logits" in output:
        return torch.stack([output.start_logits, output.end_logits], -1)
    return output.logits


def model_loss(model, batch):
    """The model's own loss; for answers, whose softmax goes over padding there, that of task_loss."""
    if "start_positions" in batch:
        return task_loss(output_logits(model(**inputs_of(batch))), batch)
    return model(**inputs_of(batch), labels=labels_for(batch, torch.float64)).loss


def logits_of(model, batch):
    with torch.no_grad():
        return of_text(output_logits(model(**inputs_of(batch))), batch)


def tolerance(logits):
    return 1e-4 * max(1.0, logits.abs().max().item())


def moved(logits, other):
    """How far `other` is from `logits`, in tolerances of float32 logits."""
    return (logits.double() - other.double()).abs().max().item() / tolerance(logits)


def require_moved(what, logits, other, at_least=100.0):
    found = moved(logits, other)
    assert found >= at_least, f"{what}: moves the logits by only {found:.1f} tolerances"


def require_equal(what, logits, other, at_most=1.0):
    found = moved(logits, other)
    assert found <= at_most, f"{what}: logits differ by {found:.3g} tolerances"


def train_ten_steps(trained, loss_of, batches, after_step):
    """Ten AdamW steps from the present values, batches taken in turn: the losses before each step.

    `trained` maps file keys to leaf tensors in float64; they hold the result afterwards. `after_step` runs behind each
    step of the optimiser.
    """
    optimizer = torch.optim.AdamW(trained.values(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    losses = []
    for step in range(STEPS):
        optimizer.zero_grad()
        loss = loss_of(batches[step % len(batches)])
        loss.backward()
        optimizer.step()
        after_step()
        losses.append(loss.item())
    return torch.tensor(losses, dtype=torch.float64)


def rounding_only(grads):
    """Tensors whose exact gradient is zero (softmax does not see the bias of a key): AdamW then amplifies noise."""
    return sorted(key for key, grad in grads.items() if grad.abs().max() < 1e-12)


def training_record(trained, loss_of, batches, after_step=lambda: None):
    """Loss and gradients on the first batch, then ten steps; also proves that rounding cannot decide the result."""
    start = {key: value.detach().clone() for key, value in trained.items()}
    loss = loss_of(batches[0])
    grads = dict(zip(trained, torch.autograd.grad(loss, list(trained.values()))))
    rng = generator("rounding")
    for key, value in trained.items():
        value.data = start[key] * (1 + 1e-14 * torch.randn(value.shape, generator=rng, dtype=torch.float64))
    train_ten_steps(trained, loss_of, batches, after_step)
    shaken = {key: value.detach().clone() for key, value in trained.items()}
    for key, value in trained.items():
        value.data = start[key].clone()
    losses = train_ten_steps(trained, loss_of, batches, after_step)
    drift = max((value - shaken[key]).abs().max().item() for key, value in trained.items()
                if key not in rounding_only(grads))
    assert drift < 1e-9, f"ten steps are ill-conditioned: 1e-14 grows to {drift:.1e}"
    moved_by = min((value - start[key]).abs().max().item() for key, value in trained.items())
    assert moved_by > 1e-4, f"a tensor is hardly trained: {moved_by:.1e}"
    record = {"loss64": loss.detach().reshape(1), "losses": losses}
    record |= {f"grad.{key}": value for key, value in grads.items()}
    record |= {f"step10.{key}": value.detach().clone() for key, value in trained.items()}
    for key, value in trained.items():
        value.data = start[key]
    return record


OPTIMIZER = {"name": "AdamW", "lr": LEARNING_RATE, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": WEIGHT_DECAY,
             "steps": STEPS, "batches": "batch 0 (no prefix) on steps 1, 3, ..., batch 1 (batch1.) on steps 2, 4, ..."}
