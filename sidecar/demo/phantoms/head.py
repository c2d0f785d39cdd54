"""A head of ellipsoids: which tissue is at a point, and how it looks in CT and MR.

Coordinates are those of DICOM's patient (PS3.3 C.7.6.2.1.1), in mm from the middle of the head:
x to the left, y to the back, z upwards.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from sidecar.demo.phantoms.noise import Field, waves


class Tissue(IntEnum):
    """What is at a point; the index of the tables below."""

    AIR = 0
    REST = 1
    SKIN = 2
    FAT = 3
    MUSCLE = 4
    BONE = 5
    MARROW = 6
    FLUID = 7
    GREY = 8
    WHITE = 9
    FALX = 10
    CALCIFIED = 11
    EYE = 12
    LENS = 13
    BLEEDING = 14
    OEDEMA = 15


HOUNSFIELD = np.array(
    [-1000, -550, 25, -85, 52, 1150, 480, 5, 40, 28, 48, 160, 9, 75, 74, 17], np.float32
)
T1 = np.array([0, 0, 420, 900, 330, 30, 620, 90, 400, 620, 250, 60, 100, 350, 520, 300], np.float32)
T2 = np.array(
    [0, 0, 260, 520, 200, 20, 330, 950, 480, 330, 120, 60, 930, 200, 150, 720], np.float32
)
"""Values of the tissues in a CT (HU), and in two kinds of MR (signal)."""

_BASE_CAVITIES = (
    ((7, -78, -14), (9, 5, 9)),
    ((8, -56, -38), (7, 20, 13)),
    ((7, -22, -50), (8, 10, 8)),
    ((29, -60, -68), (14, 16, 12)),
    ((5, -60, -64), (5, 26, 14)),
)
_DEEP_NUCLEI = (
    ((15, 14, 4), (9, 14, 10)),
    ((26, -8, 2), (7.5, 19, 12)),
    ((12, -24, 8), (6, 11, 10)),
)
_LOWER_VENTRICLES = (
    ((22, 44, 9), (6.5, 17, 8)),
    ((31, 10, -19), (4, 15, 4)),
    ((0, 4, 2), (2.6, 15, 10)),
    ((0, 44, -30), (8, 7, 9)),
)
_LESION_CENTRE = (-37, 2, 24)


@dataclass(frozen=True, slots=True)
class Head:
    """A head. ``seed`` shapes its brain; ``lesion_mm`` is the radius of its lesion, 0 for none."""

    seed: int
    size: float = 1.0
    ventricles: float = 1.0
    lesion_mm: float = 0.0

    def tissues(self, x: Field, y: Field, z: Field) -> Field:
        """Return the ``Tissue`` at each point as an array of uint8.

        Each of the coordinates varies along a dimension of its own, or is one number.
        """
        space = Space(x, y, z, self.size)
        uneven = 0.012 * waves(self.seed + 1, 70, *space.axes)
        depth = space.cranium() + uneven
        made = space.made
        space.draw(np.abs(np.hypot(x, y - 18) - 101) < 2.2 - 999 * (y < 40), Tissue.REST)
        outer = np.minimum(depth, space.face())
        space.draw(outer < 1.105, Tissue.SKIN)
        space.draw(outer < 1.075, Tissue.FAT)
        space.draw(outer < 1.03, Tissue.MUSCLE)
        space.draw(depth < 1.015, Tissue.BONE)
        space.draw((depth < 0.992) & (depth > 0.957 + 0.6 * uneven), Tissue.MARROW)
        self._brain(space, depth)
        self._ventricles(space)
        if self.lesion_mm:
            self._lesion(space, depth)
        _draw_base(space, depth)
        return made

    def _brain(self, space: "Space", depth: Field) -> None:
        """Draw the folded cortex, the deep nuclei, the cleft between the halves, and the falx."""
        x, y, z = space.axes
        inside = depth < 0.935
        folds = np.abs(waves(self.seed + 2, 26, x, y, z) + 0.5 * waves(self.seed + 3, 13, x, y, z))
        ragged = 0.05 * waves(self.seed + 4, 40, x, y, z)
        space.draw(inside, Tissue.FLUID)
        space.draw(depth < 0.922, Tissue.GREY)
        space.draw(
            (depth + 0.03 * folds < 0.86) & (folds > 0.28 - (depth < 0.72 + ragged)), Tissue.WHITE
        )
        space.draw((folds < 0.10) & inside & (depth > 0.77 + ragged), Tissue.FLUID)
        for centre, axes in _DEEP_NUCLEI:
            space.fill(centre, axes, Tissue.GREY)
        side = np.abs(x)
        capsule = np.abs(side - 19.5 - 0.16 * np.abs(y - 4)) < 1.6
        space.draw(capsule & (np.abs(y) < 24) & (np.abs(z - 4) < 14), Tissue.WHITE)
        callosum = (y - 2) ** 2 / 46**2 + (z - 12) ** 2 / 22**2 < 1
        cleft = np.abs(x - 0.7 * np.sin(y / np.float32(17))) + 99 * (callosum | (z < -20))
        space.draw((cleft < 2.1) & inside, Tissue.FLUID)
        space.draw((cleft < 0.9) & inside, Tissue.FALX)

    def _ventricles(self, space: "Space") -> None:
        x, y, z = space.axes
        wide, side = self.ventricles, np.abs(x)
        across = (side - 8 - 0.0075 * (y - 2) ** 2) / (6.2 * wide)
        body = across**2 + ((z - 17 + 0.006 * y * y) / (8.5 * wide)) ** 2 + (np.abs(y - 2) > 38)
        space.draw(body < 1, Tissue.FLUID)
        for centre, axes in _LOWER_VENTRICLES:
            space.fill(centre, (axes[0] * wide, axes[1], axes[2] * wide), Tissue.FLUID)
        space.fill((19, 32, 9), (2.6, 4, 2.4), Tissue.CALCIFIED)
        space.fill((0, 25, 4), (2.2, 3, 2.6), Tissue.CALCIFIED)

    def _lesion(self, space: "Space", depth: Field) -> None:
        """Draw a fresh bleeding on the right side, with the swelling around it."""
        made = space.made
        away = space.distance(_LESION_CENTRE, (self.lesion_mm,) * 3)
        if away.min() > 3:
            return
        away = away + 0.16 * waves(self.seed + 5, 16, *space.axes)
        reach = away < 1.75 + 0.5 * waves(self.seed + 6, 24, *space.axes)
        space.draw(reach & (depth < 0.922) & (made != Tissue.FALX), Tissue.OEDEMA)
        space.draw((away < 1) & (depth < 0.922), Tissue.BLEEDING)


class Space:
    """Points in a head, and the tissue that was drawn at each."""

    def __init__(self, x: Field, y: Field, z: Field, size: float) -> None:
        self.axes = tuple(axis.astype(np.float32) / np.float32(size) for axis in (x, y, z))
        self.made: Field = np.zeros(np.broadcast_shapes(x.shape, y.shape, z.shape), np.uint8)

    def distance(self, centre: tuple[float, ...], axes: tuple[float, ...]) -> Field:
        """Return the distance from the middle of an ellipsoid, 1 at its surface."""
        x, y, z = (
            ((axis - np.float32(middle)) / np.float32(length)) ** 2
            for axis, middle, length in zip(self.axes, centre, axes, strict=True)
        )
        return np.asarray(np.sqrt(x + y + z))

    def draw(self, where: Field, tissue: Tissue) -> None:
        """Set the tissue where the mask, which may be broadcast, says so."""
        np.copyto(self.made, np.uint8(tissue), where=where)

    def fill(
        self,
        centre: tuple[float, float, float],
        axes: tuple[float, float, float],
        tissue: Tissue,
        instead: Tissue | None = None,
    ) -> None:
        """Fill an ellipsoid, and its mirror image on the other side of the head.

        With ``instead`` only what was that tissue is filled.
        """
        for side in (1, -1) if centre[0] else (1,):
            squares: list[Field] = []
            box: list[slice] = [slice(None)] * self.made.ndim
            for axis, middle, length in zip(
                self.axes, (side * centre[0], *centre[1:]), axes, strict=True
            ):
                square = ((axis - np.float32(middle)) / np.float32(length)) ** 2
                near = np.flatnonzero(square.ravel() < 1)
                if not near.size:
                    break
                if square.size > 1:
                    along = int(np.argmax(square.shape))
                    box[along] = slice(near[0], near[-1] + 1)
                    square = np.take(square, range(near[0], near[-1] + 1), along)
                squares.append(square)
            else:
                part = self.made[tuple(box)]
                filled = squares[0] + squares[1] + squares[2] < 1
                if instead is not None:
                    filled = filled & (part == instead)
                part[filled] = tissue

    def cranium(self) -> Field:
        """Return the distance from the middle of the skull, 1 at its outside."""
        x, y, z = self.axes
        # It is narrower in front, and flat below.
        wide = 70 + 0.06 * y - 0.0012 * (y + 20) ** 2 * (y < -20)
        high = np.where(z > 0, np.float32(82), np.float32(66))
        return np.asarray(np.sqrt((x / wide) ** 2 + ((y - 2) / 88) ** 2 + (z / high) ** 2))

    def face(self) -> Field:
        """Return the same for face and neck, which go on below."""
        x, y, z = self.axes
        below = np.clip(-z / 40, 0, 1)
        across = (x / (56 + 6 * below)) ** 2 + ((y + 12 - 6 * below) / (80 - 4 * below)) ** 2
        nose = self.distance((0, -88, -57), (11, 17, 17)) + 0.06
        return np.asarray(np.minimum(np.sqrt(across) + np.maximum((z + 18) / 30, 0), nose))


def _draw_base(space: Space, depth: Field) -> None:
    """Draw the base of the skull: petrous bones, orbits, sinuses, and the brain stem."""
    made, (x, y, z) = space.made, space.axes
    floor = (np.abs(z + 46 - 0.16 * y) < 2.2) & (depth < 0.94) & (y < 20)
    space.draw(floor & (made >= Tissue.FLUID), Tissue.BONE)
    space.fill((40, 12, -42), (19, 8, 9), Tissue.BONE)
    for cell in range(12):
        angle = 2.4 * cell
        centre = (50 + 6 * np.sin(angle), 13 + 5 * np.cos(1.7 * angle), -43 + cell / 2 - 3)
        space.fill(centre, (2.4, 2.6, 2.4), Tissue.AIR)
    space.fill((31, -62, -36), (21, 27, 19), Tissue.BONE)
    space.fill((31, -62, -36), (19, 25, 17), Tissue.FAT)
    nerve = np.abs(np.abs(x) - 31 + 0.42 * (y + 62)) + 99 * (np.abs(y + 48) > 18)
    space.draw((nerve < 2.1) & (np.abs(z + 36) < 2.4) & (made == Tissue.FAT), Tissue.MUSCLE)
    for side in (44, 18):
        space.fill((side, -52, -36), (2, 20, 6), Tissue.MUSCLE, instead=Tissue.FAT)
    space.fill((31, -74, -36), (13.4, 13.4, 13.4), Tissue.SKIN)
    space.fill((31, -74, -36), (12.2, 12.2, 12.2), Tissue.EYE)
    space.fill((31, -83, -36), (4.6, 2.2, 4.6), Tissue.LENS)
    for centre, axes in _BASE_CAVITIES:
        wall = (axes[0] + 1.7, axes[1] + 1.7, axes[2] + 1.7)
        space.fill(centre, wall, Tissue.BONE)
        space.fill(centre, axes, Tissue.AIR)
    septum = (np.abs(x) < 1.1) & (np.abs(y + 57) < 27) & (np.abs(z + 50) < 26)
    space.draw(septum, Tissue.BONE)
    _draw_spine(space)


def _draw_spine(space: Space) -> None:
    """Draw the brain stem, and the vertebrae around the cord that it becomes."""
    x, y, z = space.axes
    # It gets thinner on its way down, and leaves through a hole in the skull.
    narrow = np.clip((-z - 20) / 44, 0, 1)
    stem = np.hypot(x / 1.1, y - 20 - 8 * narrow) / (12 - 6.5 * narrow)
    below = z < -20 - 0.3 * np.abs(y - 20)
    neck = z < -64
    gap = np.abs(np.sin(z * np.float32(np.pi / 17))) < 0.2
    body = (x / 15) ** 2 + ((y - 8) / 11) ** 2
    space.draw(neck & ~gap & (body < 1), Tissue.MARROW)
    space.draw(neck & ~gap & (np.abs(body - 1) < 0.18), Tissue.BONE)
    space.draw(neck & ~gap & (stem > 2) & (stem < 2.9) & (y > 22), Tissue.BONE)
    space.draw(neck & ~gap & (np.abs(x) < 3) & (y > 38) & (y < 56), Tissue.BONE)
    space.draw(below & (stem < 1.75), Tissue.FLUID)
    space.draw(below & (stem < 1), Tissue.WHITE)
