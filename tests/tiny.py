"""Tiny text-to-image pipelines and captioners with random weights, in the standard folders, built in a moment without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

LENGTH = 32  # tokens of a prompt


def tokenizer() -> Any:
    """A byte-level CLIP tokenizer without merges: every letter is a token, nothing is unknown."""
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    marks = ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {token: i for i, token in enumerate([*letters, *(letter + "</w>" for letter in letters), *marks])}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=LENGTH, unk_token=marks[1], bos_token=marks[0], eos_token=marks[1], pad_token=marks[1])


def _vae() -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 8), down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2, latent_channels=4,
        norm_num_groups=4, sample_size=16, layers_per_block=1, mid_block_add_attention=False, scaling_factor=1.0,
    )  # fmt: skip


def tiny_pipeline(folder: Path) -> Path:
    """A Stable-Diffusion-class pipeline of 16 px."""
    import torch
    from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    words = tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae = _vae()
        unet = UNet2DConditionModel(
            sample_size=8, block_out_channels=(8, 16), down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), layers_per_block=1,
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=16, attention_head_dim=2, norm_num_groups=4,
        )  # fmt: skip
        text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(words),
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
                max_position_embeddings=LENGTH,
                bos_token_id=words.bos_token_id,
                eos_token_id=words.eos_token_id,
                pad_token_id=words.pad_token_id,
            )  # fmt: skip
        )
    scheduler = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, steps_offset=1, set_alpha_to_one=False)
    pipeline = StableDiffusionPipeline(
        vae=vae, text_encoder=text, tokenizer=words, unet=unet, scheduler=scheduler, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def tiny_xl(folder: Path) -> Path:
    """A Stable-Diffusion-XL-class pipeline of 16 px, with two text encoders."""
    import torch
    from diffusers import EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    words = tokenizer()
    marks = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id}
    shape = {"vocab_size": len(words), "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "projection_dim": 12}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        vae = _vae()
        unet = UNet2DConditionModel(
            sample_size=8, block_out_channels=(8, 16), down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), layers_per_block=1,
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=32, attention_head_dim=2, norm_num_groups=4,
            addition_embed_type="text_time", addition_time_embed_dim=4, projection_class_embeddings_input_dim=12 + 6 * 4,
        )  # fmt: skip
        one = CLIPTextModel(CLIPTextConfig(max_position_embeddings=LENGTH, **shape, **marks))
        two = CLIPTextModelWithProjection(CLIPTextConfig(max_position_embeddings=LENGTH, **shape, **marks))
    scheduler = EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1)
    pipeline = StableDiffusionXLPipeline(
        vae=vae, text_encoder=one, text_encoder_2=two, tokenizer=words, tokenizer_2=tokenizer(), unet=unet, scheduler=scheduler, add_watermarker=False
    )
    pipeline.save_pretrained(folder, safe_serialization=True)
    return folder


def tiny_captioner(folder: Path) -> Path:
    """A vision encoder and a text decoder of 16 px."""
    import torch
    from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel, VisionEncoderDecoderModel, ViTConfig, ViTImageProcessor, ViTModel

    words = tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        eye = ViTModel(ViTConfig(image_size=16, patch_size=4, hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2))
        mouth = GPT2LMHeadModel(GPT2Config(vocab_size=len(words), n_positions=LENGTH, n_embd=16, n_layer=1, n_head=2, add_cross_attention=True))
    net = VisionEncoderDecoderModel(encoder=eye, decoder=mouth)
    marks = {"decoder_start_token_id": words.bos_token_id, "pad_token_id": words.pad_token_id, "eos_token_id": words.eos_token_id}
    for name, value in marks.items():
        setattr(net.config, name, value)
    net.generation_config = GenerationConfig(max_length=LENGTH, bos_token_id=words.bos_token_id, **marks)
    net.save_pretrained(folder)
    words.save_pretrained(folder)
    ViTImageProcessor(size={"height": 16, "width": 16}, image_mean=[0.5] * 3, image_std=[0.5] * 3).save_pretrained(folder)
    return folder
