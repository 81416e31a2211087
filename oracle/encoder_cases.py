"""The cases of make_encoders.py: configurations, what each is about, and how to switch that off."""
from dataclasses import dataclass, field

import torch
from transformers import (AlbertConfig, BertConfig, DebertaV2Config, DistilBertConfig, ElectraConfig, ModernBertConfig,
                          MPNetConfig, PreTrainedConfig, RobertaConfig, XLMRobertaConfig)

ROWS, LONG_ROWS = [12, 9, 5, 7], [20, 13, 5, 17]
SHAPE = {"vocab_size": 61, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4,
         "intermediate_size": 40, "max_position_embeddings": 40, "layer_norm_eps": 1e-5}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


@dataclass
class Encoder:
    name: str
    config: PreTrainedConfig
    shows: str = ""
    off: list = field(default_factory=list)    # (what, changes of the config or a function on the model): moves logits
    head: str = "ForSequenceClassification"        # the end of the class that is saved
    lengths: list = field(default_factory=lambda: ROWS)
    least: dict = field(default_factory=dict)  # by what: tolerances that it moves, where not 100
    written: object = None                     # config.json as other tools write it, made of transformers'
    stored: object = None                      # the tensors of the file, made of transformers'


# ---- configurations

def bert(**changes):
    return BertConfig(**{**SHAPE, **NO_DROPOUT, "type_vocab_size": 2, **changes})


def roberta(**changes):
    return RobertaConfig(**{**SHAPE, **NO_DROPOUT, "type_vocab_size": 1, **changes})


def xlm_roberta(**changes):
    return XLMRobertaConfig(**{**SHAPE, **NO_DROPOUT, "type_vocab_size": 1, **changes})


def distilbert(**changes):
    return DistilBertConfig(**{"vocab_size": 61, "dim": 16, "n_layers": 2, "n_heads": 4, "hidden_dim": 40,
                               "max_position_embeddings": 40, "dropout": 0.0, "attention_dropout": 0.0,
                               "seq_classif_dropout": 0.0, "qa_dropout": 0.0, **changes})


def electra(**changes):
    return ElectraConfig(**{**SHAPE, **NO_DROPOUT, "embedding_size": 8, "summary_last_dropout": 0.0, **changes})


def albert(**changes):
    return AlbertConfig(**{**SHAPE, **NO_DROPOUT, "classifier_dropout_prob": 0.0, "embedding_size": 8,
                           "num_hidden_layers": 4, **changes})


def mpnet(**changes):
    return MPNetConfig(**{**SHAPE, **NO_DROPOUT, **changes})


def modernbert(**changes):
    """Global attention in the layers 0 and 3; four tokens on each side in the others."""
    shape = {k: v for k, v in SHAPE.items() if k != "layer_norm_eps"}
    rope = {"full_attention": {"rope_type": "default", "rope_theta": 100.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 20.0}}
    return ModernBertConfig(**{**shape, "num_hidden_layers": 4, "intermediate_size": 24, "local_attention": 8,
                               "rope_parameters": rope, "pad_token_id": 60, "bos_token_id": 57, "eos_token_id": 58,
                               "cls_token_id": 57, "sep_token_id": 58, **changes})


V3 = {"relative_attention": True, "position_buckets": 4, "norm_rel_ebd": "layer_norm", "share_att_key": True,
      "pos_att_type": "p2c|c2p", "position_biased_input": False, "type_vocab_size": 0}
LISTED = {"relative_attention": True, "max_relative_positions": 6, "pos_att_type": ["c2p", "p2c"],
          "position_biased_input": True, "type_vocab_size": 2}
XL = {**V3, "conv_kernel_size": 3, "conv_act": "gelu", "embedding_size": 8, "attention_head_size": 4}


def deberta(**changes):
    return DebertaV2Config(**{**SHAPE, **NO_DROPOUT, "layer_norm_eps": 1e-7, "bos_token_id": 1, "eos_token_id": 2,
                              **changes})


PLAIN = {"bert": bert, "roberta": roberta, "xlm_roberta": xlm_roberta, "distilbert": distilbert, "electra": electra,
         "albert": albert, "mpnet": mpnet, "modernbert": modernbert,
         "deberta": lambda **changes: deberta(**{**V3, **changes})}
LONG = ("mpnet", "modernbert", "deberta")
LONG_TYPES = ("mpnet", "modernbert", "deberta-v2")


# ---- config.json and tensors as other tools write them

def modernbert_old_keys(config):
    """Rotary angles and layers as transformers wrote them before its fifth version."""
    rope = config["rope_parameters"]
    kept = {k: v for k, v in config.items() if k not in ("rope_parameters", "layer_types", "dtype")}
    return {**kept, "global_attn_every_n_layers": 3, "global_rope_theta": rope["full_attention"]["rope_theta"],
            "local_rope_theta": rope["sliding_attention"]["rope_theta"], "layer_norm_eps": config["norm_eps"],
            "position_embedding_type": "absolute", "torch_dtype": "float32"}


def deberta_published(config):
    """The keys that published DeBERTa checkpoints have: types of attention in one text, nothing of the pooler."""
    kept = {k: v for k, v in config.items() if not k.startswith("pooler") and k not in ("legacy", "dtype")}
    return {**kept, "pos_att_type": "|".join(config["pos_att_type"])}


def deberta_pretrained(tensors, rng):
    """What published DeBERTa-v3 has beside the model: heads of its training, and positions that nothing reads."""
    tables = {"deberta.embeddings.position_embeddings.weight": (40, 16)}
    for head in ("lm_predictions.lm_head", "mask_predictions"):
        tables |= {f"{head}.dense.weight": (16, 16), f"{head}.dense.bias": (16,), f"{head}.LayerNorm.weight": (16,),
                   f"{head}.LayerNorm.bias": (16,)}
    tables |= {"lm_predictions.lm_head.bias": (61,), "mask_predictions.classifier.weight": (1, 16),
               "mask_predictions.classifier.bias": (1,)}
    return {**tensors, **{name: torch.randn(shape, generator=rng) for name, shape in tables.items()}}


def deberta_prefixed(tensors, rng):
    return deberta_pretrained({f"deberta.{name}": value for name, value in tensors.items()}, rng)


def with_positions(prefix):
    """Buffers of numbers that older versions of transformers stored."""
    def stored(tensors, rng):
        return {**tensors, f"{prefix}.embeddings.position_ids": torch.arange(40).unsqueeze(0)}
    return stored


def bert_pretrained(tensors, rng):
    """What published BERT has beside the masked model: the other task of its training, and the tied table again."""
    tables = {"bert.pooler.dense.weight": (16, 16), "bert.pooler.dense.bias": (16,),
              "cls.seq_relationship.weight": (2, 16), "cls.seq_relationship.bias": (2,)}
    again = {"cls.predictions.decoder.weight": tensors["bert.embeddings.word_embeddings.weight"].clone(),
             "cls.predictions.decoder.bias": tensors["cls.predictions.bias"].clone()}
    return {**tensors, **again, **{name: torch.randn(shape, generator=rng) for name, shape in tables.items()}}


# ---- what a case changes in the loaded model to switch its feature off

def attribute(name, value):
    def change(model):
        for module in model.modules():
            if name in vars(module):
                setattr(module, name, value)
    return change


def zeroed(part):
    def change(model):
        for key, value in model.named_parameters():
            if part in key:
                value.data.zero_()
    return change


def without_convolution(model):
    model.deberta.encoder.conv = None


def one_layer_for_all(model):
    layers = [layer for group in model.albert.encoder.albert_layer_groups for layer in group.albert_layers]
    for layer in layers[1:]:
        layer.load_state_dict(layers[0].state_dict())


def inner_layers_once(model):
    for group in model.albert.encoder.albert_layer_groups:
        group.albert_layers = group.albert_layers[:1]


# ---- cases

def families():
    """Sequence classification: every family, its options switched on and off."""
    yield Encoder("xlm_roberta_cls", xlm_roberta(num_labels=3), "RoBERTa under another name")
    yield Encoder("distilbert_cls", distilbert(num_labels=3), "no token types, no pooler: pre_classifier and ReLU")
    yield Encoder("distilbert_reg", distilbert(num_labels=1, activation="relu"), "activation relu, one label",
                  [("activation", {"activation": "gelu"})])
    yield Encoder("electra_cls", electra(num_labels=3), "embedding_size 8: embeddings_project")
    yield Encoder("electra_equal", electra(num_labels=1, embedding_size=16, layer_norm_eps=0.05),
                  "embedding_size equals hidden_size: none", [("layer_norm_eps", {"layer_norm_eps": 1e-12})])
    yield Encoder("albert_cls", albert(num_labels=3), "one layer called four times, gelu_new",
                  [("activation", {"hidden_act": "gelu"}), ("layers", {"num_hidden_layers": 3})],
                  least={"activation": 1})
    yield Encoder("albert_groups", albert(num_labels=1, num_hidden_groups=2, inner_group_num=2, hidden_act="relu"),
                  "two groups of two layers: eight steps",
                  [("layers", one_layer_for_all), ("inner layers", inner_layers_once)])
    yield Encoder("mpnet_cls", mpnet(num_labels=3), "one table of relative positions for all layers",
                  [("relative positions", zeroed("relative_attention_bias"))], lengths=LONG_ROWS)
    window = [("window", {"local_attention": 30}),
              ("global layers", {"layer_types": ["sliding_attention"] * 4}),
              ("angles", {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 100.0},
                                              "sliding_attention": {"rope_type": "default", "rope_theta": 100.0}}})]
    yield Encoder("modernbert_cls", modernbert(num_labels=3), "global and local layers, first token", window,
                  lengths=LONG_ROWS)
    biased = {"norm_bias": True, "attention_bias": True, "mlp_bias": True, "classifier_bias": True}
    yield Encoder("modernbert_mean",
                  modernbert(num_labels=2, classifier_pooling="mean", classifier_activation="relu",
                             hidden_activation="gelu_new", norm_eps=0.05, **biased),
                  "mean of the text, biases everywhere; old keys",
                  [("pooling", {"classifier_pooling": "cls"}), ("head", {"classifier_activation": "gelu"}),
                   ("norm_eps", {"norm_eps": 1e-12}), ("window", {"local_attention": 30}),
                   ("angles", {"local_rope_theta": 100.0})],
                  lengths=LONG_ROWS, written=modernbert_old_keys)
    yield from deberta_families()


def deberta_families():
    c2p, p2c = attribute("pos_att_type", ["c2p"]), attribute("pos_att_type", ["p2c"])
    norm = ("norm of relative embeddings", attribute("norm_rel_ebd", ["none"]))
    buckets = ("logarithmic buckets", attribute("position_buckets", -1))
    yield Encoder("deberta_v3_cls", deberta(num_labels=3, **V3), "keys and queries shared with the positions; as "
                  "published", [("c2p", p2c), ("p2c", c2p), norm, buckets], lengths=LONG_ROWS,
                  written=deberta_published)
    yield Encoder("deberta_listed", deberta(num_labels=3, **LISTED), "linears of their own, no buckets; positions and "
                  "token types", [("c2p", p2c), ("p2c", c2p)], lengths=LONG_ROWS)
    yield Encoder("deberta_c2p", deberta(num_labels=1, **{**V3, "pos_att_type": ["c2p"], "norm_rel_ebd": "none"}),
                  "c2p alone, shared keys", [buckets], lengths=LONG_ROWS)
    yield Encoder("deberta_p2c", deberta(num_labels=2, **{**V3, "pos_att_type": ["p2c"], "share_att_key": False}),
                  "p2c alone, a linear of its own", [norm, buckets], lengths=LONG_ROWS)
    yield Encoder("deberta_absolute",
                  deberta(num_labels=3, relative_attention=False, pos_att_type=["c2p", "p2c"],
                          position_biased_input=True, type_vocab_size=2, layer_norm_eps=0.2,
                          pooler_hidden_act="tanh"),
                  "no relative attention, whose types divide the scores all the same; a pooler with tanh",
                  [("scale", attribute("pos_att_type", [])), ("pooler", {"pooler_hidden_act": "gelu"}),
                   ("layer_norm_eps", {"layer_norm_eps": 1e-12})])
    yield Encoder("deberta_xl", deberta(num_labels=3, **XL), "a convolution beside the first layer; embed_proj",
                  [("convolution", without_convolution), ("conv_act", {"conv_act": "tanh"}), norm],
                  lengths=LONG_ROWS, written=deberta_published)
    yield Encoder("deberta_conv_groups", deberta(num_labels=2, **LISTED, conv_kernel_size=5, conv_groups=2),
                  "five taps in two groups, tanh", [("convolution", without_convolution),
                                                    ("conv_act", {"conv_act": "gelu"})], lengths=LONG_ROWS)


def plain(family, ending, head, **changes):
    lengths = LONG_ROWS if family in LONG else ROWS
    return Encoder(f"{family}_{ending}", PLAIN[family](**changes), head=head, lengths=lengths)


def token_classifiers():
    for family in PLAIN:
        yield plain(family, "tokens", "ForTokenClassification", num_labels=5)


def masked_models():
    """relu in the layers: BERT's, ALBERT's, DistilBERT's and DeBERTa's heads take it too, the others have gelu."""
    for family in PLAIN:
        key = {"distilbert": "activation", "modernbert": "hidden_activation"}.get(family, "hidden_act")
        case = plain(family, "masked", "ForMaskedLM", **{key: "relu"})
        case.stored = {"bert": bert_pretrained, "deberta": deberta_pretrained}.get(family)
        yield case
    for family in ("bert", "roberta"):
        case = plain(family, "masked_untied", "ForMaskedLM", tie_word_embeddings=False)
        case.shows = "a decoder of its own, whose bias is not the head's"
        yield case
    case = plain("deberta", "masked_new", "ForMaskedLM", hidden_act="relu", legacy=False)
    case.shows = "legacy false: lm_predictions"
    yield case


def question_answerers():
    for family in PLAIN:
        yield plain(family, "answers", "ForQuestionAnswering", num_labels=2)


def pretrained():
    """Checkpoints as they are published, for which a classifier is new: the class that writes them, by family."""
    kinds = {"xlm_roberta": "ForMaskedLM", "distilbert": "ForMaskedLM", "electra": "ForPreTraining",
             "albert": "ForPreTraining", "mpnet": "ForMaskedLM", "modernbert": "ForMaskedLM", "deberta": "Model"}
    for family, kind in kinds.items():
        case = plain(family, "pretrained", kind, num_labels=3)
        case.stored = {"deberta": deberta_prefixed, "albert": with_positions("albert"),
                       "electra": with_positions("electra"), "xlm_roberta": with_positions("roberta")}.get(family)
        yield case


GROUPS = [families, token_classifiers, masked_models, question_answerers]
