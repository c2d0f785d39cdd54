"""A photograph of skin with a mole, as a dermatologist takes it: with a ruler at its edge."""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from sidecar.demo.phantoms.noise import Field, blur, grain, waves

ROWS, COLUMNS = 720, 960

_SKIN = np.array([224, 172, 148], np.float32)
_MOLE = np.array([92, 54, 40], np.float32)


def photograph(seed: int) -> Field:
    """Return the photograph in RGB as uint8 (rows, columns, 3)."""
    x = (np.arange(COLUMNS, dtype=np.float32) - COLUMNS * 0.52)[np.newaxis, :]
    y = (np.arange(ROWS, dtype=np.float32) - ROWS * 0.46)[:, np.newaxis]
    pores = blur(grain(seed, (ROWS, COLUMNS)), 2, 2)
    lines = np.abs(waves(seed + 1, 26, x, y)) + np.abs(waves(seed + 2, 22, x, y))
    light = 1.06 - 0.0000006 * (x + 200) ** 2 - 0.0000009 * (y + 120) ** 2
    light = light + 0.10 * pores - 0.045 * np.exp(-((lines / 0.22) ** 2))
    redness = 0.012 * waves(seed + 3, 190, x, y) + 0.009 * waves(seed + 4, 60, x, y)
    skin = (
        _SKIN
        * light[:, :, np.newaxis]
        * (1 + redness[:, :, np.newaxis] * np.array([1.0, -1.2, -0.9], np.float32))
    )
    pigment = _pigment(seed, x, y)[:, :, np.newaxis]
    picture = skin * (1 - pigment) + _MOLE * light[:, :, np.newaxis] * pigment
    drawn = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    return np.asarray(_with_ruler(_with_hairs(drawn, seed)))


def _pigment(seed: int, x: Field, y: Field) -> Field:
    """Return how much of the mole's colour is at each pixel: a net of lines, and darker spots."""
    rough = 0.10 * waves(seed + 5, 120, x, y) + 0.05 * waves(seed + 6, 45, x, y)
    away = np.hypot(x / 150, (y + 0.25 * x) / 112) + rough
    net = 1 - np.minimum(np.abs(waves(seed + 7, 30, x, y)) * 1.6, 1)
    spots = np.clip(waves(seed + 8, 70, x, y), 0, 1)
    amount = (0.52 + 0.26 * net + 0.30 * spots) / (1 + np.exp(np.clip((away - 0.94) * 26, -30, 30)))
    return np.asarray(np.clip(blur(amount, 1, 2), 0, 0.96))


def _with_hairs(picture: Image.Image, seed: int) -> Image.Image:
    """Draw some fine hairs, a little out of focus."""
    random = np.random.default_rng(seed + 9)
    layer = Image.new("L", picture.size, 0)
    pen = ImageDraw.Draw(layer)
    for _ in range(34):
        start = random.uniform((0, 0), picture.size)
        angle, bend = random.normal(0.5, 0.25), random.normal(0, 0.006)
        points = [tuple(start)]
        for _ in range(int(random.uniform(12, 30))):
            angle += bend * 6
            last = points[-1]
            points.append((last[0] + 6 * np.cos(angle), last[1] + 6 * np.sin(angle)))
        pen.line(points, fill=int(random.uniform(60, 150)), width=2)
    layer = layer.filter(ImageFilter.GaussianBlur(0.8))
    return Image.composite(Image.new("RGB", picture.size, (70, 48, 38)), picture, layer)


def _with_ruler(picture: Image.Image) -> Image.Image:
    """Lay a paper ruler along the lower edge, a line a millimetre."""
    pen = ImageDraw.Draw(picture)
    top = ROWS - 78
    pen.rectangle((0, top - 3, COLUMNS, ROWS), fill=(176, 132, 112))
    pen.rectangle((0, top, COLUMNS, ROWS), fill=(246, 244, 236))
    for number in range(COLUMNS // 16 + 1):
        length = 34 if number % 10 == 0 else 24 if number % 5 == 0 else 14
        left = 8 + 16 * number
        pen.line((left, top, left, top + length), fill=(24, 24, 28), width=2)
        if number % 10 == 0:
            pen.text((left + 4, top + 38), str(number // 10), fill=(24, 24, 28))
    for number, colour in enumerate(((196, 40, 44), (44, 140, 70), (40, 80, 170), (120, 120, 120))):
        pen.rectangle(
            (COLUMNS - 40 * (number + 1), ROWS - 34, COLUMNS - 40 * number - 8, ROWS - 8), colour
        )
    return picture
