"""An ultrasound loop of a beating heart: four chambers seen from the apex, one heart beat.

The transducer is at the top; the left ventricle is on the right, as in any echo laboratory.
"""

import numpy as np

from sidecar.demo.phantoms.noise import Field, blur, grain

ROWS, COLUMNS = 300, 360
FRAMES = 40
FRAME_MILLISECONDS = 25.0
PIXEL_MM = 0.5
"""Distance of two pixels: the sector is 140 mm deep."""

_HALF_ANGLE = 0.66
_SIZE_MM = 140.0
_CHAMBERS = (
    # Middle across and down in mm, half width and length, and how much of it a beat takes away.
    (17, 62, 17, 33, 0.30),
    (-21, 66, 14, 27, 0.24),
    (18, 113, 18, 15, -0.22),
    (-21, 112, 17, 14, -0.20),
)


def grey_loop(seed: int) -> Field:
    """Return the frames as an array of uint8 (frames, rows, columns)."""
    return np.stack([_frame(seed, number)[0] for number in range(FRAMES)])


def colour_loop(seed: int) -> Field:
    """Return the frames in RGB, with the flow of blood in red (to the transducer) and blue."""
    return np.stack([_coloured(seed, number) for number in range(FRAMES)])


def _grid() -> tuple[Field, Field]:
    """Return how far right of the transducer and how far below it each pixel is, in mm."""
    across = (np.arange(COLUMNS, dtype=np.float32) - (COLUMNS - 1) / 2)[np.newaxis, :] * PIXEL_MM
    down = (np.arange(ROWS, dtype=np.float32) - 8)[:, np.newaxis] * PIXEL_MM
    return across, down


def _contraction(phase: float) -> float:
    """Return 0 when the ventricles are filled, 1 when they are empty; ``phase`` is 0 to 1."""
    if phase < 0.38:
        return float(np.sin(np.pi / 2 * phase / 0.38) ** 2)
    return float(np.cos(np.pi / 2 * min(1.0, (phase - 0.38) / 0.42)) ** 2)


def _frame(seed: int, number: int) -> tuple[Field, Field]:
    """Return the picture, and where blood is in its left ventricle and atrium."""
    across, down = _grid()
    phase = number / FRAMES
    beat = _contraction(phase)
    radius, angle = np.hypot(across, down), np.arctan2(across, np.maximum(down, 1e-3))
    is_seen = (np.abs(angle) < _HALF_ANGLE) & (radius > 6) & (radius < _SIZE_MM) & (down > 0)
    lowered = down - 9 * beat * np.clip((down - 20) / 70, 0, 1)
    echo = np.full(is_seen.shape, 34, np.float32)
    heart = _ellipse(across, lowered, 0, 78, 52 - 3 * beat, 64)
    echo = np.where(heart < 1, np.float32(112), echo)
    echo += 110 * np.exp(-(((heart - 1.02) / 0.035) ** 2))
    blood = np.zeros_like(is_seen)
    for x, y, wide, long, shrinks in _CHAMBERS:
        less = 1 - shrinks * beat
        cavity = _ellipse(across, lowered, x, y, wide * less, long * (1 - shrinks / 3 * beat))
        blood |= cavity < 1
        echo = np.where(cavity < 1, np.float32(9), echo)
        echo += 46 * np.exp(-(((cavity - 1.06) / 0.06) ** 2))
    openness = min(1.0, max(0.0, (phase - 0.42) / 0.08))
    for x, width in ((17, 15), (-20, 12)):
        echo += _valve(across, lowered, x, width, openness=openness)
    echo *= _speckle(seed, radius + 4 * beat, angle, number)
    echo *= np.clip(1.12 - radius / 420, 0, 2) * (1 - 0.5 * (np.abs(angle) / _HALF_ANGLE) ** 4)
    picture = np.where(is_seen, 255 * np.clip(echo / 235, 0, 1) ** 0.72, 0)
    picture = blur(picture.astype(np.float32), 1, 1) * is_seen
    return picture.astype(np.uint8), blood & (across > -3) & is_seen


def _ellipse(x: Field, y: Field, across: float, down: float, wide: float, long: float) -> Field:
    """Return the distance from the middle of an egg that is narrower at the top."""
    taper = 1 - 0.22 * np.clip((down - y) / long, -1, 1)
    return np.sqrt(((x - across) / (wide * taper)) ** 2 + ((y - down) / long) ** 2)


def _valve(across: Field, down: Field, x: float, width: float, *, openness: float) -> Field:
    """Return the echo of two leaflets, which hang down into the ventricle when they are open."""
    total = np.zeros(np.broadcast_shapes(across.shape, down.shape), np.float32)
    for side in (-1, 1):
        hinge = x + side * width
        along = np.clip((across - hinge) * -side / width, 0, 1)
        line = 97 - openness * 15 * along - 3 * (1 - openness) * along
        reach = (along > 0) & (along < 1 - 0.45 * openness)
        total += 120 * np.exp(-(((down - line) / 1.5) ** 2)) * reach
    return total


def _speckle(seed: int, radius: Field, angle: Field, number: int) -> Field:
    """Return the grain of ultrasound, which is fine along the beam and wider away from it."""
    rows = np.clip((radius * 2.1).astype(np.int32), 0, 319)
    columns = np.clip(((angle / _HALF_ANGLE + 1) * 84).astype(np.int32), 0, 169)
    still = blur(grain(seed, (320, 170)) ** 2 + grain(seed + 1, (320, 170)) ** 2, 1, 1)
    moving = blur(grain(seed + 10 + number, (320, 170)) ** 2, 1, 1)
    texture = np.sqrt(0.4 * still + 0.25 * moving)
    return np.asarray(texture[rows, columns])


def _coloured(seed: int, number: int) -> Field:
    grey, blood = _frame(seed, number)
    across, down = _grid()
    picture = np.repeat(grey[:, :, np.newaxis], 3, axis=2).astype(np.float32)
    phase = number / FRAMES
    # Blood fills the ventricle, twice a beat, and leaves it upwards once.
    filling = np.exp(-(((phase - 0.56) / 0.09) ** 2)) + 0.6 * np.exp(-(((phase - 0.9) / 0.06) ** 2))
    leaving = np.exp(-(((phase - 0.17) / 0.1) ** 2))
    inflow = filling * np.exp(-(((across - 18) / 9) ** 2) - ((down - 84) / 30) ** 2)
    outflow = leaving * np.exp(-(((across - 8) / 7) ** 2) - ((down - 80) / 26) ** 2)
    speed = (inflow - outflow) * (1 + 0.15 * grain(seed + 60 + number, grey.shape, 3))
    box = blood & (np.abs(across - 14) < 24) & (np.abs(down - 84) < 44) & (np.abs(speed) > 0.12)
    strength = np.clip(np.abs(speed), 0, 1)
    # What is too quick turns over into the other colour, as it does on any machine.
    over = strength > 0.86
    red, blue = (speed > 0) != over, (speed < 0) != over
    for colour, tint in ((red, (255, 90, 10)), (blue, (20, 110, 255))):
        flow = np.array(tint, np.float32) * (0.45 + 0.55 * strength[:, :, np.newaxis])
        picture = np.where((box & colour)[:, :, np.newaxis], flow, picture)
    _draw_scale(picture)
    _draw_ecg(picture, phase)
    return np.clip(picture, 0, 255).astype(np.uint8)


def _draw_scale(picture: Field) -> None:
    """Draw the bar of colours in the upper right corner."""
    ramp = np.linspace(1, -1, 80, dtype=np.float32)[:, np.newaxis]
    bar = np.where(ramp > 0, [255, 90, 10], [20, 110, 255]) * np.abs(ramp)
    picture[14:94, COLUMNS - 20 : COLUMNS - 10] = bar[:, np.newaxis, :]


def _draw_ecg(picture: Field, phase: float) -> None:
    """Draw the ECG along the lower edge, and where in it this frame is."""
    time = np.linspace(0, 2, COLUMNS, dtype=np.float32) % 1
    trace = 26 * np.exp(-(((time - 0.06) / 0.012) ** 2)) - 7 * np.exp(
        -(((time - 0.09) / 0.01) ** 2)
    )
    trace += 5 * np.exp(-(((time - 0.34) / 0.05) ** 2)) + 3 * np.exp(-(((time - 0.9) / 0.03) ** 2))
    rows = np.clip(ROWS - 12 - trace, 0, ROWS - 1).astype(int)
    for column in range(COLUMNS):
        before = rows[column - 1] if column else rows[0]
        top, bottom = sorted((before, rows[column]))
        picture[top : bottom + 1, column] = (70, 230, 120)
    column = int(phase * COLUMNS / 2)
    picture[ROWS - 44 :, column : column + 1] = (255, 210, 60)
