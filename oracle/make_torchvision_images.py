"""Writes tests/golden/images/torchvision.json: the CRC-32 of what transformers' processors make of the images beside it
(make_images.py) with the backend torchvision, and of sizes that torchvision gives them.

Needs packages that no other script does, and a processor with AVX2, without which torch resizes bilinearly in floating
point: python3 -m venv V && V/bin/pip install torch==2.14.1 torchvision==0.29.1 pillow==13.0.0 numpy transformers==5.24.0
&& V/bin/python oracle/make_torchvision_images.py"""
import json
import pathlib
import zlib

import numpy as np
import torch
import torchvision
from PIL import Image, ImageOps
from torchvision.transforms.v2 import functional
from transformers.image_processing_backends import pil_torch_interpolation_mapping
from transformers.models.bit.image_processing_bit import BitImageProcessor
from transformers.models.clip.image_processing_clip import CLIPImageProcessor
from transformers.models.deit.image_processing_deit import DeiTImageProcessor
from transformers.models.siglip.image_processing_siglip import SiglipImageProcessor
from transformers.models.vit.image_processing_vit import ViTImageProcessor

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden" / "images"
SIZES = ((12, 12), (9, 60), (60, 9), (45, 10), (10, 32), (70, 61), (3, 200))
CONFIGS = (
    (ViTImageProcessor, {}),
    (ViTImageProcessor, {"size": 20, "do_rescale": False}),
    (ViTImageProcessor, {"size": {"height": 17, "width": 23}, "resample": 0, "image_mean": [0.1, 0.2, 0.3]}),
    (DeiTImageProcessor, {}),
    (DeiTImageProcessor, {"size": {"height": 40, "width": 31}, "crop_size": 34, "do_normalize": False}),
    (BitImageProcessor, {"size": {"shortest_edge": 33}, "crop_size": {"height": 31, "width": 40}}),
    (CLIPImageProcessor, {}),
    (CLIPImageProcessor, {"size": 30, "crop_size": 51, "rescale_factor": 0.01}),
    (SiglipImageProcessor, {}),
)
assert "AVX2" in torch.backends.cpu.get_cpu_capability() or "AVX512" in torch.backends.cpu.get_cpu_capability()


def crc(array):
    return zlib.crc32(np.ascontiguousarray(array).tobytes())


def opened(name):
    return ImageOps.exif_transpose(Image.open(FOLDER / name)).convert("RGB")


def resized():
    for name in ("noise.png", "smooth.png"):
        pixels = torch.from_numpy(np.array(opened(name))).permute(2, 0, 1).contiguous()
        for height, width in SIZES:
            for resample in range(4):
                result = functional.resize(pixels, (height, width), pil_torch_interpolation_mapping[resample])
                yield [name, height, width, resample, crc(result.permute(1, 2, 0).numpy())]


def processed():
    for make, config in CONFIGS:
        processor = make(**config)
        assert processor.backend == "torchvision"
        config = {**config, "image_processor_type": make.__name__}
        for name in ("noise.png", "smooth_1.jpg", "exif6.jpg"):
            values = processor(opened(name), return_tensors="np")["pixel_values"][0]
            yield [config, name, list(values.shape[1:]), crc(values.astype(np.float32))]


lines = [f'"torchvision": "{torchvision.__version__}"']
for key, rows in (("resized", resized()), ("processed", processed())):
    lines.append(f'"{key}": [\n' + ",\n".join(json.dumps(row) for row in rows) + "\n]")
(FOLDER / "torchvision.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")
