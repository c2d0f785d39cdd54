"""A chest X-ray, computed as a shadow: how much of the beam each thing in its way takes away."""

import numpy as np
from PIL import Image

from sidecar.demo.phantoms.noise import Field, grain, waves

ROWS, COLUMNS = 1_280, 1_152
PIXEL_MM = 0.3
WHITE = 4_095

_RIBS = 10


def chest(seed: int, rows: int = ROWS, columns: int = COLUMNS) -> Field:
    """Return the image as uint16 of 12 bits, bone white, the patient's left on the right."""
    # A shadow is never sharp: half of the resolution is enough for all but the noise.
    scale = np.float32(2_000 / rows)
    x = (np.arange(columns // 2, dtype=np.float32) - columns / 4 + 0.5)[np.newaxis, :] * scale
    y = np.arange(rows // 2, dtype=np.float32)[:, np.newaxis] * scale
    sway = 5 * waves(seed, 700, x, y)
    soft, inside = _body(x, y)
    lungs = _lungs(x + sway, y + sway, inside)
    shadow = soft * (1 - 0.74 * lungs)
    shadow += _bones(x + 0.4 * sway, y, inside)
    shadow += lungs * _vessels(seed, x, y) + _middle(x, y + sway)
    shadow *= 1 + 0.02 * waves(seed + 1, 260, x, y)
    light = np.clip((shadow - 0.1) / 1.6, 0, 1) ** 0.88
    drawn = Image.fromarray(light.astype(np.float32)).resize(
        (columns, rows), Image.Resampling.BICUBIC
    )
    light = np.asarray(drawn)
    image = 260 + 3_500 * light + (12 + 30 * light) * grain(seed + 2, light.shape)
    image = np.clip(image, 0, WHITE).astype(np.uint16)
    _mark_left(image)
    return image


def _smooth(distance: Field, width: float) -> Field:
    """Return 1 inside, where ``distance`` is negative, and 0 outside, with a soft edge."""
    return np.asarray(1 / (1 + np.exp(np.clip(distance / width, -40, 40))))


def _body(x: Field, y: Field) -> tuple[Field, Field]:
    """Return the shadow of neck, shoulders and chest, and how much is inside of the body."""
    side = np.abs(x)
    half = 372 - 28 * np.cos((y - 560) / 210) + 0.03 * y
    shoulder = 92 + 420 * np.clip((y - 40) / 190, 0, 1) ** 0.62
    inside = _smooth(side - np.minimum(half + 75 * (y < 330) * (1 - y / 330), shoulder), 5)
    thick = np.sqrt(np.clip(1 - (side / (half + 60)) ** 2, 0.03, 1))
    return inside * (0.28 + 0.72 * thick) * (0.86 + 0.0002 * y), inside


def _lungs(x: Field, y: Field, inside: Field) -> Field:
    side = np.abs(x)
    is_left = _smooth(-x, 3)
    dome = 700 + 42 * (1 - is_left) * -1 + 0.0032 * (side - 170) ** 2 + 22 * (side < 0)
    shape = ((side - 178) / (158 - 0.00042 * (y - 640) ** 2 * (y < 640))) ** 2
    apex = ((np.minimum(y, 470) - 470) / 350) ** 2
    lung = _smooth(((np.clip(shape, 0, 9) ** 1.35 + apex**1.35) ** 0.37 - 1) * 90, 4)
    return np.asarray(lung * _smooth(y - dome, 5) * inside)


def _bones(x: Field, y: Field, inside: Field) -> Field:
    """Return spine, ribs, collar bones and shoulder blades. Their edges are denser than within."""
    side = np.abs(x)
    disc = 0.72 + 0.28 * np.abs(np.cos(np.pi * y / 62))
    total = 0.24 * _smooth(side - 30, 4) * disc
    total += 0.16 * np.exp(-(((side - 24) / 6) ** 2) - ((((y % 62) - 31) / 11) ** 2))
    for number in range(_RIBS):
        top = 128 + 58 * number
        reach = 150 + 34 * min(number, 5) + 70 * np.sqrt(number / _RIBS)
        along = np.clip(side / reach, 0, 1.25)
        line = top - 34 * np.sin(np.pi * np.clip(along, 0, 1) * 0.62) + 105 * along**2.4
        total += 0.15 * _tube(y - line, 12 - 3 * along) * _smooth(side - reach, 6) * (side > 26)
        front = top + 135 + 12 * number
        back = front - 0.30 * (reach - side) + 0.0004 * (reach - side) ** 2
        in_front = _smooth(side - reach, 6) * _smooth(110 + 7 * number - side, 14)
        total += 0.10 * _tube(y - back, 10) * in_front * (number < 7)
    collar = 176 - 0.16 * side + 22 * np.sin(side / 62)
    total += 0.24 * _tube(y - collar, 13) * _smooth(26 - side, 4) * _smooth(side - 330, 6)
    blade = np.abs(side - 330 - 0.10 * (y - 230))
    total += 0.15 * _tube(blade, 40) * _smooth(200 - y, 14) * _smooth(y - 480 + 0.4 * side, 40)
    arm = np.hypot(side - 398, y - 240)
    total += 0.32 * _tube(arm, 46) * _smooth(130 - y, 12)
    return np.asarray(total * inside)


def _tube(distance: Field, radius: Field | float) -> Field:
    """Return the shadow of a bone: long ways through its wall, shorter ones through the marrow."""
    away = np.abs(distance) / radius
    wall = np.sqrt(np.clip(1.06 - away**2, 0, 1)) - 0.55 * np.sqrt(np.clip(0.62 - away**2, 0, 1))
    return np.asarray(np.clip(wall, 0, 1) * 1.25)


def _middle(x: Field, y: Field) -> Field:
    """Return heart, great vessels, wind pipe, and what is below the diaphragm."""
    heart = np.hypot((x - 62 - 0.10 * (y - 560)) / 122, (y - 580 - 0.28 * (x - 60)) / 138)
    total = 0.50 * _smooth((heart - 1) * 100, 5) * (1 - 0.45 * np.exp(-((x / 30) ** 2)))
    arch = np.hypot((x - 40) / 38, (y - 330) / 44)
    total += 0.20 * _smooth((arch - 1) * 40, 3) + 0.14 * _smooth(np.abs(x - 44) - 20, 5) * (y > 330)
    total += 0.15 * _smooth(np.abs(x + 18) - 44, 8) * _smooth(y - 560, 30)
    pipe = _smooth(np.abs(x + 3) - 13, 3) * _smooth(y - 345, 10)
    branch = np.abs(np.abs(x + 3) - 0.85 * (y - 345))
    pipe += 0.6 * _smooth(branch - 11, 3) * _smooth(345 - y, 6) * _smooth(y - 430, 8)
    total -= 0.26 * pipe
    bubble = np.hypot((x - 190) / 52, (y - 790) / 36)
    total -= 0.24 * _smooth((bubble - 1) * 40, 4)
    return np.asarray(total)


def _vessels(seed: int, x: Field, y: Field) -> Field:
    """Return branching vessels, which leave the hila and get thinner on their way."""
    random = np.random.default_rng(seed + 5)
    total = np.zeros(np.broadcast_shapes(x.shape, y.shape), np.float32)
    for side in (-1, 1):
        for _ in range(18):
            angle = random.uniform(-1.25, 1.35)
            bend, length = random.uniform(-0.0016, 0.0016), random.uniform(120, 300)
            total += _vessel(x, y, side, angle, bend, length, random.uniform(3.2, 6.5))
            twig = angle + random.uniform(-0.5, 0.5)
            total += _vessel(x, y, side, twig, -bend, length * 1.15, 3.4)
    hila = np.hypot((np.abs(x) - 78) / 34, (y - 452) / 58)
    return np.asarray(0.34 * np.clip(total, 0, 1) + 0.22 * _smooth((hila - 1) * 20, 8))


def _vessel(
    x: Field, y: Field, side: int, angle: float, bend: float, length: float, width: float
) -> Field:
    """Return one vessel from a hilum: a bent line that begins ``width`` wide."""
    right, below = side * x - 66, y - 448
    along = right * np.cos(angle) + below * np.sin(angle)
    off = below * np.cos(angle) - right * np.sin(angle) - bend * along**2
    left = np.clip(1 - along / length, 0, 1)
    is_on = (along > 0) & (left > 0)
    return np.where(is_on, np.exp(-((off / (0.6 + width * left)) ** 2)) * left**0.7, 0)


def _mark_left(image: Field) -> None:
    """Put the lead letter L beside the patient's left shoulder."""
    size = image.shape[0] // 26
    top, left = image.shape[0] // 14, image.shape[1] - 2 * size
    image[top : top + size, left : left + size // 5] = WHITE
    image[top + size - size // 5 : top + size, left : left + size * 3 // 5] = WHITE
