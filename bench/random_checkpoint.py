"""Writes a checkpoint of random weights in a usual shape: random_checkpoint.py bert-base|llama FOLDER"""

import sys

sys.path.pop(0)  # tokenizers.py beside this file has the name of a library that is needed

import torch
from transformers import BertConfig, BertForSequenceClassification, LlamaConfig, LlamaForCausalLM

SHAPES = {
    "bert-base": lambda: BertForSequenceClassification(BertConfig()),
    "llama": lambda: LlamaForCausalLM(
        LlamaConfig(hidden_size=1024, intermediate_size=2816, num_hidden_layers=6, num_attention_heads=16,
                    num_key_value_heads=8, vocab_size=8192, max_position_embeddings=1024)),
}

torch.manual_seed(0)
SHAPES[sys.argv[1]]().save_pretrained(sys.argv[2])
