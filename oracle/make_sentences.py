"""Writes tests/golden/sentences: losses of sentence-transformers and their gradients, its pooling, its scores, and a model that
it saved, without the weights, with its embeddings of some texts.

The model's weights are those of tests/golden/fill_mask. Needs requirements-sentences.txt beside requirements.txt.
"""
from common import GOLDEN, generator, normal, provenance, save_json, save_tensors

import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import sentence_transformers
import torch
from sentence_transformers import SentenceTransformer, losses
from sentence_transformers.evaluation import EmbeddingSimilarityEvaluator, TripletEvaluator
from sentence_transformers.models import Normalize, Pooling, Transformer

FOLDER = GOLDEN / "sentences"
ROWS, WIDTH = 6, 5
TEXTS = ["a man is not the fish in the river", "the bank was sold", "fishing, the firms in a bank of fishs.", "sold",
         "a bank is a firm and a man is not a bank and a fish is in the river of a firm"]


class Given(torch.nn.Module):
    """In place of a model: its inputs are the embeddings."""
    similarity_fn_name = "cosine"
    model_card_data = SimpleNamespace(set_evaluation_metrics=lambda *_: None)

    def forward(self, features):
        return {"sentence_embedding": features["embeddings"]}

    def encode(self, texts, **_):
        return torch.stack([self.known[text] for text in texts]).numpy()

    encode_query = encode_document = encode


def loss_cases():
    scale = {"scale": 5.0}
    yield "ranking", losses.MultipleNegativesRankingLoss, {}, 2, False
    yield "ranking_negatives", losses.MultipleNegativesRankingLoss, {}, 3, False
    yield "ranking_scale", losses.MultipleNegativesRankingLoss, scale, 2, False
    yield "cosine", losses.CosineSimilarityLoss, {}, 2, True
    yield "cosent", losses.CoSENTLoss, {}, 2, True
    yield "cosent_scale", losses.CoSENTLoss, scale, 2, True


def write_losses(texts, scores):
    tensors = {"texts": torch.stack(texts), "scores": scores}
    for name, loss, options, count, scored in loss_cases():
        own = [text.clone().requires_grad_() for text in texts[:count]]
        value = loss(Given(), **options)([{"embeddings": text} for text in own], scores if scored else None)
        value.backward()
        tensors[name] = value
        tensors[name + "_gradients"] = torch.stack([text.grad for text in own])
    save_tensors(FOLDER / "losses.safetensors", tensors, __file__, "sentences")


def write_pooling(rng):
    states, mask = normal((3, 4, WIDTH), 1, rng).double(), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]])
    tensors = {"states": states, "mask": mask}
    for mode in ["mean", "cls", "max"]:
        features = {"token_embeddings": states, "attention_mask": mask}
        pooled = Pooling(WIDTH, pooling_mode=mode)(features)
        tensors[mode] = pooled["sentence_embedding"]
        tensors[mode + "_normalized"] = Normalize()(pooled)["sentence_embedding"]
    save_tensors(FOLDER / "pooling.safetensors", tensors, __file__, "sentences")


def scores_of(texts, scores):
    model = Given()
    names = [[f"{i} {row}" for row in range(ROWS)] for i in range(len(texts))]
    model.known = {name: text[row] for own, text in zip(names, texts) for row, name in enumerate(own)}
    similarity = EmbeddingSimilarityEvaluator(names[0], names[1], scores.tolist(), main_similarity="cosine")(model)
    triplets = TripletEvaluator(*names, main_similarity_function="cosine")(model)
    return {"spearmanr": float(similarity["spearman_cosine"]), "pearson": float(similarity["pearson_cosine"]),
            "accuracy": float(triplets["cosine_accuracy"])}


def write_model():
    saved = FOLDER / "model"
    transformer = Transformer(str(GOLDEN / "fill_mask"), max_seq_length=12)
    modules = [transformer, Pooling(transformer.get_word_embedding_dimension(), pooling_mode="cls"), Normalize()]
    model = SentenceTransformer(modules=modules, device="cpu", prompts={"query": "a fish . ", "document": ""},
                                default_prompt_name="query")
    rows = {name: model.encode(TEXTS, prompt_name=name, convert_to_tensor=True) for name in ["query", "document"]}
    with tempfile.TemporaryDirectory() as scratch:
        model.save(scratch)
        for path in sorted(Path(scratch).rglob("*.json")):
            if path.name in ["config.json", "tokenizer.json"] and path.parent == Path(scratch):
                continue  # as in fill_mask
            target = saved / path.relative_to(scratch)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    save_tensors(FOLDER / "embeddings.safetensors", rows, __file__, "sentences")


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    rng = generator("sentences")
    texts = [normal((ROWS, WIDTH), 1, rng).double() for _ in range(3)]
    scores = torch.tensor([0.9, 0.1, 0.5, 0.5, 0.0, 1.0], dtype=torch.double)
    write_losses(texts, scores)
    write_pooling(rng)
    write_model()
    save_json(FOLDER / "case.json", {"texts": TEXTS, **scores_of(texts, scores),
                                     "provenance": {**provenance(__file__, "sentences"),
                                                    "sentence_transformers": sentence_transformers.__version__}})


if __name__ == "__main__":
    main()
