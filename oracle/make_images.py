"""Writes tests/golden/images: small image files of every kind that is read, and in expected.json the CRC-32 of what Pillow
and transformers' Pillow processors make of them: the pixels (upright, over white), the pixels in other sizes with every
filter, the values that a model sees. And tests/golden/colours, a set of three classes.

Needs packages that no other script does: python3 -m venv V && V/bin/pip install pillow==13.0.0 numpy transformers==5.24.0
&& V/bin/python oracle/make_images.py. The sizes of Pillow 12 are added by a second run with pillow==12.0.0, which
changes nothing else."""
import json
import pathlib
import zlib

import numpy as np
import PIL
from PIL import Image, ImageOps, PngImagePlugin

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "tests" / "golden" / "images"
EXPECTED = FOLDER / "expected.json"
COLOURS = FOLDER.parent / "colours"
WHITE = (255, 255, 255, 255)
draw = np.random.default_rng(26)


def crc(array):
    return zlib.crc32(np.ascontiguousarray(array).tobytes())


def noise(height, width, channels):
    return draw.integers(0, 256, (height, width, channels), dtype=np.uint8)


def smooth(height, width, channels):
    y, x = np.mgrid[0:height, 0:width]
    waves = [127 + 120 * np.sin(x / 7 + i) * np.cos(y / (9 + i)) for i in range(channels)]
    return np.stack(waves, -1).astype(np.uint8)


def xmp(orientation):
    return f'<x:xmpmeta><rdf tiff:Orientation="{orientation}"/></x:xmpmeta>'


def raw_profile(exif):
    """As ImageMagick writes it into a PNG."""
    digits = exif.hex()
    lines = [digits[i:i + 72] for i in range(0, len(digits), 72)]
    return "\n".join(["", "exif", f"{len(exif):8}", *lines, ""])


def make_files():
    def save(image, name, **options):
        image.save(FOLDER / name, **options)

    for name, values, height, width in (("noise", noise, 19, 26), ("smooth", smooth, 45, 32)):
        colours = Image.fromarray(values(height, width, 3))
        grey = Image.fromarray(values(height, width, 1)[..., 0])
        alpha = Image.fromarray(values(height, width, 4))
        for subsampling in range(3):
            save(colours, f"{name}_{subsampling}.jpg", subsampling=subsampling, quality=85)
        save(colours, f"{name}_progressive.jpg", progressive=True, quality=70)
        save(grey, f"{name}_grey.jpg")
        save(colours, f"{name}.png")
        save(grey, f"{name}_grey.png")
        save(alpha, f"{name}_alpha.png")
        save(Image.merge("LA", [grey, grey.rotate(180)]), f"{name}_grey_alpha.png")
        palette = colours.quantize(16)
        save(palette, f"{name}_palette.png")
        save(palette, f"{name}_palette_key.png", transparency=3)
        save(palette, f"{name}_palette_alpha.png", transparency=bytes(range(0, 256, 16)))
        save(grey.convert("1"), f"{name}_bits.png")
        save(grey, f"{name}_grey_key.png", transparency=int(np.array(grey)[3, 3]))
        save(colours, f"{name}_key.png", transparency=tuple(int(v) for v in np.array(colours)[3, 3]))
        save(colours, f"{name}_lossless.webp", lossless=True)
        save(colours, f"{name}.webp", quality=80)
        save(alpha, f"{name}_alpha.webp", quality=80)
    small = Image.fromarray(smooth(9, 14, 3))
    for orientation in range(1, 10):
        exif = Image.Exif()
        exif[0x112] = orientation
        save(small, f"exif{orientation}.jpg", exif=exif.tobytes())
    exif = Image.Exif()
    exif[0x112] = 6
    save(small, "exif6.png", exif=exif.tobytes())
    save(small, "exif6.webp", exif=exif.tobytes())
    packet = PngImagePlugin.PngInfo()
    packet.add_text("Raw profile type exif", raw_profile(exif.tobytes()), zip=True)
    save(small, "exif6_profile.png", pnginfo=packet)
    packet = PngImagePlugin.PngInfo()
    packet.add_itxt("XML:com.adobe.xmp", xmp(8))
    save(small, "xmp8.png", pnginfo=packet)
    save(small, "xmp8.jpg", xmp=xmp(8).encode())
    save(small, "xmp8.webp", xmp=xmp(8).encode())

    # What is refused.
    save(Image.fromarray(draw.integers(0, 65536, (5, 6), dtype=np.uint16)), "refused_16_bits.png")
    save(small.convert("CMYK"), "refused_cmyk.jpg")
    frames = [Image.fromarray(noise(5, 6, 3)) for _ in range(3)]
    save(frames[0], "refused_animation.png", save_all=True, append_images=frames[1:])
    save(frames[0], "refused_animation.webp", save_all=True, append_images=frames[1:])
    save(small, "refused.gif")
    save(small, "refused.bmp")
    save(small, "refused.tiff")


def make_colours():
    """A folder for each of three colours, to train on: three shades of it, with a darker corner."""
    for place, colour in enumerate(("red", "green", "blue")):
        (COLOURS / colour).mkdir(parents=True, exist_ok=True)
        for shade in range(3):
            pixels = np.full((12, 16, 3), 20 * shade, np.uint8)
            pixels[..., place] = 255 - 30 * shade
            pixels[:4, :6] //= 2
            Image.fromarray(pixels).save(COLOURS / colour / f"{shade}.png")


def opened(file):
    image = ImageOps.exif_transpose(Image.open(file))
    if "A" in image.getbands() or image.info.get("transparency") is not None:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, WHITE), image)
    return image.convert("RGB")


def resized():
    sizes = ((12, 12), (9, 60), (60, 9), (45, 10), (10, 32), (70, 61), (3, 200))
    order = "pillow_13" if int(PIL.__version__.split(".")[0]) >= 13 else "pillow_12"
    rows = []
    for name in ("noise.png", "smooth.png"):
        image = opened(FOLDER / name)
        for height, width in sizes:
            for resample in range(6):
                pixels = np.array(image.resize((width, height), resample))
                rows.append([name, height, width, resample, order, crc(pixels)])
    return rows


def processed():
    from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
    from transformers.models.deit.image_processing_pil_deit import DeiTImageProcessorPil
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    configs = (
        (ViTImageProcessorPil, {}),
        (ViTImageProcessorPil, {"size": 20, "do_rescale": False}),
        (ViTImageProcessorPil, {"size": {"height": 17, "width": 23}, "resample": 1, "image_mean": [0.1, 0.2, 0.3]}),
        (DeiTImageProcessorPil, {}),
        (DeiTImageProcessorPil, {"size": {"height": 40, "width": 31}, "crop_size": 33, "do_normalize": False}),
        (BitImageProcessorPil, {"size": {"shortest_edge": 33}, "crop_size": {"height": 31, "width": 40}}),
        (CLIPImageProcessorPil, {}),
        (CLIPImageProcessorPil, {"size": 30, "crop_size": 50, "rescale_factor": 0.01}),
        (SiglipImageProcessorPil, {}),
    )
    rows = []
    for make, config in configs:
        processor = make(**config)
        config = {**config, "image_processor_type": make.__name__[:-3]}
        for name in ("noise.png", "smooth_1.jpg", "exif6.jpg"):
            values = processor(opened(FOLDER / name), return_tensors="np")["pixel_values"][0]
            rows.append([config, name, list(values.shape[1:]), crc(values.astype(np.float32))])
    return rows


if PIL.__version__.startswith("12."):
    expected = json.loads(EXPECTED.read_text())
    expected["resized"] = [row for row in expected["resized"] if row[4] != "pillow_12"] + resized()
else:
    FOLDER.mkdir(parents=True, exist_ok=True)
    make_files()
    make_colours()
    files = sorted(file.name for file in FOLDER.iterdir() if file.suffix != ".json" and "refused" not in file.name)
    pixels = {name: [*opened(FOLDER / name).size[::-1], crc(opened(FOLDER / name))] for name in files}
    expected = {"pillow": PIL.__version__, "pixels": pixels, "resized": resized(), "processed": processed()}
lines = ",\n".join(f'"{key}": ' + (json.dumps(value) if isinstance(value, str) else
                                  "[\n" + ",\n".join(json.dumps(row) for row in value) + "]" if isinstance(value, list)
                                  else "{\n" + ",\n".join(f'"{k}": {json.dumps(v)}' for k, v in value.items()) + "}")
                   for key, value in expected.items())
EXPECTED.write_text("{\n" + lines + "\n}\n")
