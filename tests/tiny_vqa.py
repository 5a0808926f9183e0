"""Tiny models that answer questions about pictures, with random weights, in the standard folders: ViLT, which picks an answer, and BLIP, which writes one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

WORDS = "[PAD] [UNK] [CLS] [SEP] [MASK] yes no is there a the number of nothing else red blue circle circles star stars what colour are one two three ?".split()
ANSWERS = ("yes", "no", "red", "two")
SIDE = 32


def tokenizer(most: int = 40) -> Any:
    """A WordPiece tokenizer that knows WORDS."""
    from transformers import BertTokenizer

    return BertTokenizer(vocab={word: i for i, word in enumerate(WORDS)}, model_max_length=most)


def tiny_vilt(folder: Path, *, says: str = "") -> Path:
    """says: an answer that it gives to everything; else the weights alone say."""
    import torch
    from transformers import ViltConfig, ViltForQuestionAnswering, ViltImageProcessor

    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = ViltConfig(
        vocab_size=len(WORDS), max_position_embeddings=40, image_size=SIDE, patch_size=8, id2label=dict(enumerate(ANSWERS)),
        label2id={a: i for i, a in enumerate(ANSWERS)}, **sizes,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        net = ViltForQuestionAnswering(config)
        for value in net.parameters():
            torch.nn.init.normal_(value, std=1.0)
    if says:
        net.classifier[-1].bias.data[ANSWERS.index(says)] = 1e4
    net.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    ViltImageProcessor(size={"shortest_edge": SIDE}, size_divisor=8).save_pretrained(folder)
    return folder


def tiny_blip(folder: Path, *, says: str = "") -> Path:
    """says: a word that it answers everything with; else the weights alone say."""
    import torch
    from transformers import BlipConfig, BlipForQuestionAnswering, BlipImageProcessor

    sizes: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    marks = {"bos_token_id": WORDS.index("[CLS]"), "eos_token_id": WORDS.index("[SEP]"), "sep_token_id": WORDS.index("[SEP]"), "pad_token_id": 0}
    text = {"vocab_size": len(WORDS), "encoder_hidden_size": 16, "max_position_embeddings": 40, **sizes, **marks}
    config = BlipConfig(text_config=text, vision_config={"image_size": SIDE, "patch_size": 8, **sizes}, projection_dim=8, image_text_hidden_size=8)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        net = BlipForQuestionAnswering(config)
        for name, value in net.named_parameters():
            if "LayerNorm" not in name and "layer_norm" not in name and "layernorm" not in name:
                torch.nn.init.normal_(value, std=0.5)
    if says:
        _says(net.text_decoder, WORDS.index(says), marks["sep_token_id"])
    net.save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    BlipImageProcessor(size={"height": SIDE, "width": SIDE}).save_pretrained(folder)
    return folder


def _says(decoder: Any, word: int, end: int) -> None:
    """Let a decoder write one word and end, whatever it is asked: its layers add nothing, and what comes next follows from the place in the text."""
    import torch

    up = torch.tensor([1.0] * 8 + [-1.0] * 8)
    with torch.no_grad():
        for name, value in decoder.named_parameters():
            value.zero_() if "LayerNorm" not in name else None
        embeddings, head = decoder.bert.embeddings, decoder.cls.predictions
        head.transform.dense.weight.copy_(torch.eye(16))
        embeddings.position_embeddings.weight[0] = up
        embeddings.position_embeddings.weight[1] = -10 * up
        for table in (embeddings.word_embeddings.weight, head.decoder.weight):
            table[word], table[end] = 2 * up, -2 * up
