"""Writes a checkpoint of random weights in a usual shape: random_checkpoint.py SHAPE FOLDER, one of SHAPES below."""

import sys

sys.path.pop(0)  # tokenizers.py beside this file has the name of a library that is needed

import torch
from transformers import (AlbertConfig, AlbertForSequenceClassification, BertConfig, BertForSequenceClassification,
                          CLIPConfig, CLIPModel, DebertaV2Config, DebertaV2ForSequenceClassification, LlamaConfig,
                          LlamaForCausalLM, ModernBertConfig, ModernBertForSequenceClassification, ViTConfig,
                          ViTForImageClassification)

SHAPES = {
    "bert-base": lambda: BertForSequenceClassification(BertConfig()),
    "deberta-v3-base": lambda: DebertaV2ForSequenceClassification(
        DebertaV2Config(vocab_size=128100, relative_attention=True, position_buckets=256, norm_rel_ebd="layer_norm",
                        share_att_key=True, pos_att_type="p2c|c2p", position_biased_input=False, type_vocab_size=0,
                        hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072)),
    "modernbert-base": lambda: ModernBertForSequenceClassification(ModernBertConfig()),
    "albert-base": lambda: AlbertForSequenceClassification(
        AlbertConfig(hidden_size=768, num_attention_heads=12, intermediate_size=3072)),
    "vit-b16": lambda: ViTForImageClassification(ViTConfig(num_labels=10)),
    "clip-b32": lambda: CLIPModel(CLIPConfig()),
    "llama": lambda: LlamaForCausalLM(
        LlamaConfig(hidden_size=1024, intermediate_size=2816, num_hidden_layers=6, num_attention_heads=16,
                    num_key_value_heads=8, vocab_size=8192, max_position_embeddings=1024)),
}

torch.manual_seed(0)
SHAPES[sys.argv[1]]().save_pretrained(sys.argv[2])
