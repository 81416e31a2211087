"""Trains a sentence encoder on STS-B with sentence-transformers and PEFT's LoRA, as `deltaw train --task_name stsb --task_type
FEATURE_EXTRACTION` does with the same settings, and prints its correlations before and after.

Needs requirements-sentences.txt beside requirements.txt. LoRA is put into sentence-transformers' own model in place.
"""
import argparse
import time
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig, inject_adapter_in_model
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments, losses
from sentence_transformers.evaluation import EmbeddingSimilarityEvaluator

HIGHEST = 5  # the score of a cosine of 1


def rows_of(file):
    fields = [line.split("\t") for line in file.read_text().rstrip("\n").split("\n")[1:]]
    return [row[7] for row in fields], [row[8] for row in fields], [float(row[9]) / HIGHEST for row in fields]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True, help="STS-B's folder, with train.tsv and dev.tsv")
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rank", type=int, default=8)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(args.seed)
    model = SentenceTransformer(args.model, device="cpu")
    evaluator = EmbeddingSimilarityEvaluator(*rows_of(args.data / "dev.tsv"), main_similarity="cosine")
    before = evaluator(model)
    config = LoraConfig(r=args.rank, lora_alpha=2 * args.rank, lora_dropout=0.0, target_modules=["query", "value"])
    inject_adapter_in_model(config, model[0].auto_model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    first, second, scores = rows_of(args.data / "train.tsv")
    settings = SentenceTransformerTrainingArguments(
        output_dir="sentences", num_train_epochs=args.epochs, per_device_train_batch_size=args.batch,
        learning_rate=args.rate, warmup_ratio=0.1, seed=args.seed, save_strategy="no", report_to="none", use_cpu=True)
    begin = time.process_time()
    SentenceTransformerTrainer(
        model=model, args=settings, loss=losses.CosineSimilarityLoss(model),
        train_dataset=Dataset.from_dict({"sentence1": first, "sentence2": second, "score": scores})).train()
    seconds = time.process_time() - begin
    after = evaluator(model)
    print({"trained": trained, "before": before["spearman_cosine"], "after": after["spearman_cosine"],
           "pearson": after["pearson_cosine"], "cpu_seconds": round(seconds)})


if __name__ == "__main__":
    main()
