"""What stands in the synthetic world: the room's fixed parts and the objects on the table.

Shapes, colours and prints are drawn from a random generator: pure functions of it. Lengths in m.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vos_ros.synthetic import shapes as sh
from vos_ros.synthetic import textures as tx

TABLE_Z_M = 0.74
"""Height of the table top."""
TABLE_SIZE_M = (1.5, 0.95)
"""Width and depth of the table top."""
ROOM_SIZE_M = (6.4, 5.4, 2.6)
"""Width, depth and height of the room."""
WINDOW_CENTRE_M = (-3.18, 0.5, 1.6)
"""Centre of the window, map frame."""
CELL_M = 0.009
"""Side of an object's faces: light is baked per vertex."""
QUARTER_TURN = np.pi / 2
CREAM: tx.Color = (0.93, 0.90, 0.82)
INK: tx.Color = (0.12, 0.12, 0.16)
GOLDEN_SECTION = 0.6180339887
"""Distance of successive hues: they are well spread, however many there are."""


@dataclass(frozen=True, eq=False, slots=True)
class CatalogueItem:
    """Describe an object before it is placed."""

    name: str
    """Its name, unique in the catalogue."""
    class_name: str
    """Its class."""
    highlight: float
    """Strength of its highlight, 0..1: how glossy it is."""
    shape: sh.Shape
    """Its mesh, standing on z = 0."""
    alike_group: str = ""
    """Shared by items of equal appearance; "" for others."""

    @property
    def radius_m(self) -> float:
        """Return the radius of its footprint, m."""
        return float(np.linalg.norm(self.shape.vertices[:, :2], axis=1).max())


class Palette:
    """Collect the textures that shapes refer to by number, and choose hues."""

    def __init__(self, rng: tx.Rng) -> None:
        self.images: list[tx.Image] = []
        self._hue = float(rng.random())

    def hue(self) -> float:
        """Choose a hue, 0..1, a golden section away from the one before it."""
        self._hue = (self._hue + GOLDEN_SECTION) % 1.0
        return self._hue

    def add(self, image: tx.Image) -> int:
        """Add a texture; returns its number."""
        self.images.append(image)
        return len(self.images) - 1


def room(rng: tx.Rng, palette: Palette) -> list[sh.Shape]:
    """Make the room in the map frame.

    Floor, ceiling, walls with a window, pictures and a door, shelves, rug, table and chairs.
    """
    w, d, h = ROOM_SIZE_M
    t = palette.add
    floor = t(tx.wood(rng, (0.62, 0.45, 0.30), (0.45, 0.30, 0.18), planks=6))
    wall = t(tx.plain(rng, tx.hsv(float(rng.uniform(0.08, 0.16)), 0.14, 0.86), 0.08))
    hue = float(rng.random())
    accent = t(tx.stripes(rng, [tx.hsv(hue, 0.25, 0.66), tx.hsv(hue, 0.18, 0.76)], 2))
    white = t(tx.plain(rng, (0.88, 0.87, 0.84), 0.06))
    oak = t(tx.wood(rng, (0.74, 0.56, 0.36), (0.58, 0.40, 0.23)))
    dark = t(tx.wood(rng, (0.36, 0.23, 0.15), (0.22, 0.13, 0.08)))
    parts = [
        sh.rectangle(w, d, floor, cell_m=0.05, repeat_m=1.5),
        sh.move(sh.rectangle(w, d, white, cell_m=0.3, repeat_m=2.0), sh.pose(0, 0, h, 0, np.pi)),
    ]
    for yaw, across, away, texture in (
        (0, w, d, wall),
        (QUARTER_TURN, d, w, accent),
        (np.pi, w, d, wall),
        (-QUARTER_TURN, d, w, wall),
    ):
        face = sh.move(
            sh.rectangle(across, h, texture, cell_m=0.1, repeat_m=1.2),
            sh.pose(0, away / 2, h / 2, 0, QUARTER_TURN),
        )
        skirting = sh.move(
            sh.box((across, 0.02, 0.09), white, cell_m=0.2, repeat_m=1.0),
            sh.pose(0, away / 2 - 0.01, 0),
        )
        parts.append(sh.move(sh.merge([face, skirting]), sh.pose(0, 0, 0, yaw)))
    parts += _openings(rng, palette, white)
    parts += [_shelves(rng, palette, dark, white)]
    rug = t(
        tx.stripes(
            rng,
            [tx.hsv(palette.hue(), 0.45, 0.5), (0.78, 0.74, 0.66), tx.hsv(palette.hue(), 0.4, 0.4)],
            9,
        )
    )
    parts.append(sh.box((2.6, 1.9, 0.012), rug, cell_m=0.03, repeat_m=1.0))
    parts.append(_table(oak))
    for x, y, yaw in ((-0.35, 0.78, 0.1), (0.98, -0.2, -1.45)):
        parts.append(
            sh.move(
                _chair(dark),
                sh.pose(x + rng.uniform(-0.05, 0.05), y, 0, yaw + rng.uniform(-0.2, 0.2)),
            )
        )
    return parts


def _openings(rng: tx.Rng, palette: Palette, white: int) -> list[sh.Shape]:
    d = ROOM_SIZE_M[1]
    x0, y0, z0 = WINDOW_CENTRE_M
    pane = palette.add(tx.mix((0.95, 0.98, 1.0), (0.62, 0.78, 1.0), tx.noise(rng, (3, 3))))
    parts = [
        sh.move(
            sh.rectangle(1.6, 1.1, pane, cell_m=0.2),
            sh.pose(x0, y0, z0, QUARTER_TURN, QUARTER_TURN),
        )
    ]
    for dy, dz, size in (
        (0.0, 0.55, (0.05, 1.7, 0.06)),
        (0.0, -0.61, (0.12, 1.8, 0.06)),
        (-0.83, -0.55, (0.05, 0.06, 1.1)),
        (0.0, -0.55, (0.05, 0.05, 1.1)),
        (0.83, -0.55, (0.05, 0.06, 1.1)),
    ):
        parts.append(
            sh.move(
                sh.box(size, white, cell_m=0.1, repeat_m=1.0), sh.pose(x0 + 0.03, y0 + dy, z0 + dz)
            )
        )
    for x, y, yaw, extent in (
        (0.9, d / 2 - 0.02, 0.0, (1.0, 0.7)),
        (-1.2, d / 2 - 0.02, 0.0, (0.6, 0.8)),
        (1.0, -d / 2 + 0.02, np.pi, (1.2, 0.8)),
    ):
        sky, hills, sun = (
            float(rng.uniform(*span)) for span in ((0.5, 0.65), (0.2, 0.5), (0.0, 0.14))
        )
        picture = palette.add(
            tx.landscape(
                rng, tx.hsv(sky, 0.5, 0.8), tx.hsv(hills, 0.5, 0.5), tx.hsv(sun, 0.7, 0.95)
            )
        )
        parts.append(
            sh.move(
                sh.rectangle(*extent, picture, cell_m=0.1), sh.pose(x, y, 1.55, yaw, QUARTER_TURN)
            )
        )
    door = [sh.box((0.9, 0.06, 2.05), white, cell_m=0.15, repeat_m=1.5)]
    door += [
        sh.move(sh.box((0.34, 0.07, 0.8), white, cell_m=0.1, repeat_m=1.0), sh.pose(x, 0.005, z))
        for x in (-0.2, 0.2)
        for z in (0.12, 1.1)
    ]
    parts.append(sh.move(sh.merge(door), sh.pose(-1.6, -d / 2 + 0.03, 0.0)))
    return parts


def _shelves(rng: tx.Rng, palette: Palette, wood: int, white: int) -> sh.Shape:
    parts = [sh.move(sh.box((0.03, 2.0, 1.9), wood, cell_m=0.1, repeat_m=0.8), sh.pose(0.16, 0, 0))]
    board = sh.box((0.32, 2.0, 0.03), wood, cell_m=0.05, repeat_m=0.8)
    parts += [sh.move(board, sh.pose(0, 0, z)) for z in (0.08, 0.52, 0.96, 1.4, 1.86)]
    parts += [
        sh.move(sh.box((0.32, 0.03, 1.9), wood, cell_m=0.1, repeat_m=0.8), sh.pose(0, y, 0))
        for y in (-1.0, 0.0, 1.0)
    ]
    for z in (0.11, 0.55, 0.99, 1.43):
        for y in (-0.5, 0.5):
            backs = palette.add(tx.spines(rng, int(rng.integers(12, 20))))
            extent = (0.2, float(rng.uniform(0.55, 0.9)), float(rng.uniform(0.26, 0.36)))
            books = sh.box(extent, [white, white, white, backs, white, white], cell_m=0.06)
            parts.append(sh.move(books, sh.pose(0.0, y + rng.uniform(-0.03, 0.03), z)))
    return sh.move(sh.merge(parts), sh.pose(ROOM_SIZE_M[0] / 2 - 0.18, 0.2, 0.0))


def _table(wood: int) -> sh.Shape:
    w, d = TABLE_SIZE_M
    top = sh.move(
        sh.box((w, d, 0.035), wood, cell_m=CELL_M, repeat_m=0.9), sh.pose(0, 0, TABLE_Z_M - 0.035)
    )
    leg = sh.box((0.06, 0.06, TABLE_Z_M - 0.035), wood, cell_m=0.04, repeat_m=0.5)
    x, y = w / 2 - 0.06, d / 2 - 0.06
    return sh.merge(
        [top, *(sh.move(leg, sh.pose(i * x, j * y, 0)) for i in (-1, 1) for j in (-1, 1))]
    )


def _chair(wood: int) -> sh.Shape:
    def block(size: tuple[float, float, float], x: float, y: float, z: float) -> sh.Shape:
        return sh.move(sh.box(size, wood, cell_m=0.03, repeat_m=0.5), sh.pose(x, y, z))

    legs = [block((0.04, 0.04, 0.44), x, y, 0.0) for x in (-0.18, 0.18) for y in (-0.18, 0.18)]
    back = [block((0.04, 0.03, 0.42), x, 0.19, 0.46) for x in (-0.18, 0.18)]
    slats = [block((0.36, 0.02, 0.06), 0.0, 0.19, z) for z in (0.58, 0.70, 0.81)]
    return sh.merge([*legs, block((0.42, 0.42, 0.03), 0, 0, 0.44), *back, *slats])


def items(rng: tx.Rng, palette: Palette) -> list[CatalogueItem]:
    """Make the fourteen objects of the table; two (``mug_a``, ``mug_b``) are identical.

    The last two are a pile of books.
    """
    mug = _mug(rng, palette)
    return [
        _cereal_box(rng, palette),
        mug,
        replace(mug, name="mug_b"),
        _bottle(rng, palette),
        _can(rng, palette),
        _ball(rng, palette),
        _ring(rng, palette),
        _cone(rng, palette),
        _vase(rng, palette),
        _block(rng, palette),
        _bowl(rng, palette),
        _teapot(rng, palette),
        _book(rng, palette, "book_large", "ATLAS", (0.25, 0.18, 0.04)),
        _book(rng, palette, "book_small", "SLAM", (0.20, 0.145, 0.03)),
    ]


def _cereal_box(rng: tx.Rng, palette: Palette) -> CatalogueItem:
    ground, other = tx.hsv(hue := palette.hue(), 0.5, 0.85), tx.hsv(hue + 0.45, 0.6, 0.45)
    front = palette.add(tx.printed(rng, ground, CREAM, other, "CRUNCH"))
    side = palette.add(tx.printed(rng, ground, CREAM, other, "oats", picture=False))
    lid = palette.add(tx.plain(rng, other))
    extent = (float(rng.uniform(0.18, 0.21)), 0.065, float(rng.uniform(0.25, 0.29)))
    return CatalogueItem(
        "cereal_box",
        "box",
        0.05,
        sh.box(extent, [front, side, front, side, lid, lid], cell_m=CELL_M),
    )


def _mug(rng: tx.Rng, palette: Palette) -> CatalogueItem:
    color = tx.hsv(palette.hue(), 0.75, 0.62)
    glaze, handle = (
        palette.add(tx.stripes(rng, [color, CREAM, CREAM], 9)),
        palette.add(tx.plain(rng, color)),
    )
    cup = [
        (0, 0),
        (0.05, 0),
        (0.055, 0.007),
        (0.055, 0.125),
        (0.049, 0.125),
        (0.049, 0.015),
        (0, 0.015),
    ]
    grip = sh.move(
        sh.torus(0.041, 0.0095, handle, cell_m=0.006, arc=(-1.75, 1.75)),
        sh.pose(0.055, 0, 0.064, 0, QUARTER_TURN),
    )
    return CatalogueItem(
        "mug_a",
        "mug",
        0.35,
        sh.merge([sh.revolve(cup, glaze, cell_m=CELL_M), grip]),
        alike_group="mug",
    )


def _bottle(rng: tx.Rng, palette: Palette) -> CatalogueItem:
    glass = palette.add(tx.plain(rng, tx.hsv(float(rng.uniform(0.25, 0.45)), 0.7, 0.34), 0.2))
    paper = palette.add(tx.printed(rng, CREAM, INK, tx.hsv(palette.hue(), 0.65, 0.7), "VINO 26"))
    cap = palette.add(tx.plain(rng, tx.hsv(palette.hue(), 0.8, 0.55)))
    body = [
        (0, 0),
        (0.037, 0),
        (0.040, 0.006),
        (0.040, 0.175),
        (0.034, 0.205),
        (0.020, 0.232),
        (0.0155, 0.25),
        (0.0155, 0.285),
    ]
    return CatalogueItem(
        "bottle",
        "bottle",
        0.6,
        sh.merge(
            [
                sh.revolve(body, glass, cell_m=CELL_M),
                sh.revolve([(0.0408, 0.045), (0.0408, 0.145)], paper, cell_m=CELL_M),
                sh.move(
                    sh.revolve([(0.017, 0), (0.017, 0.028), (0, 0.028)], cap, cell_m=CELL_M),
                    sh.pose(0, 0, 0.27),
                ),
            ]
        ),
    )


def _can(rng: tx.Rng, palette: Palette) -> CatalogueItem:
    paper = palette.add(
        tx.printed(rng, tx.hsv(palette.hue(), 0.8, 0.75), CREAM, (0.95, 0.85, 0.3), "TOMATO")
    )
    tin = palette.add(tx.stripes(rng, [(0.72, 0.73, 0.75), (0.60, 0.61, 0.63)], 24))
    body = [(0, 0), (0.048, 0), (0.048, 0.125), (0.046, 0.128), (0.044, 0.124), (0, 0.124)]
    return CatalogueItem(
        "can",
        "can",
        0.3,
        sh.merge(
            [
                sh.revolve(body, tin, cell_m=CELL_M),
                sh.revolve([(0.0487, 0.008), (0.0487, 0.118)], paper, cell_m=CELL_M),
            ]
        ),
    )


def _ball(rng: tx.Rng, palette: Palette) -> CatalogueItem:
    colors = [tx.hsv(hue := palette.hue(), 0.7, 0.8), CREAM, tx.hsv(hue + 0.33, 0.6, 0.55)]
    r = float(rng.uniform(0.07, 0.085))
    skin = palette.add(tx.patches(rng, colors, 4))
    return CatalogueItem(
        "ball",
        "ball",
        0.1,
        sh.revolve(sh.arc_profile(r, r, -QUARTER_TURN, QUARTER_TURN, 24), skin, cell_m=CELL_M),
    )


def _ring(rng: tx.Rng, palette: Palette) -> CatalogueItem:
    colors = [tx.hsv(hue := palette.hue(), 0.7, 0.85), CREAM, tx.hsv(hue + 0.4, 0.6, 0.6)]
    skin = palette.add(tx.stripes(rng, colors, 3, slant=6))
    return CatalogueItem(
        "ring",
        "toy",
        0.15,
        sh.move(sh.torus(0.08, 0.031, skin, cell_m=CELL_M, repeats=2.0), sh.pose(0, 0, 0.031)),
    )


def _cone(rng: tx.Rng, palette: Palette) -> CatalogueItem:
    skin = palette.add(
        tx.checker(rng, tx.hsv(hue := palette.hue(), 0.75, 0.9), tx.hsv(hue + 0.5, 0.45, 0.95), 12)
    )
    z = float(rng.uniform(0.2, 0.24))
    profile = [(0.0, 0.0), (0.075, 0.0), (0.075, 0.008), (0.066, 0.009), (0.004, z), (0.0, z)]
    return CatalogueItem("cone", "toy", 0.05, sh.revolve(profile, skin, cell_m=CELL_M))


def _vase(rng: tx.Rng, palette: Palette) -> CatalogueItem:
    stone = palette.add(
        tx.marble(rng, tx.hsv(hue := palette.hue(), 0.25, 0.85), tx.hsv(hue + 0.05, 0.5, 0.3))
    )
    profile = [
        (0, 0),
        (0.045, 0),
        (0.05, 0.01),
        (0.068, 0.07),
        (0.07, 0.11),
        (0.055, 0.17),
        (0.03, 0.215),
        (0.028, 0.235),
        (0.042, 0.262),
        (0.036, 0.262),
        (0.022, 0.235),
        (0.022, 0.2),
        (0, 0.2),
    ]
    return CatalogueItem("vase", "vase", 0.4, sh.revolve(profile, stone, cell_m=CELL_M))


def _book(
    rng: tx.Rng, palette: Palette, name: str, title: str, extent: tuple[float, float, float]
) -> CatalogueItem:
    hue = palette.hue()
    pages = palette.add(tx.stripes(rng, [CREAM, (0.84, 0.80, 0.70)], 40))
    cover = palette.add(
        tx.printed(rng, tx.hsv(hue, 0.7, 0.45), CREAM, tx.hsv(hue + 0.12, 0.6, 0.7), title)
    )
    back = palette.add(tx.plain(rng, tx.hsv(hue, 0.7, 0.42)))
    return CatalogueItem(
        name, "book", 0.08, sh.box(extent, [pages, pages, pages, back, cover, back], cell_m=CELL_M)
    )


def _block(rng: tx.Rng, palette: Palette) -> CatalogueItem:
    faces = [
        palette.add(
            tx.letter(
                rng, (0.82, 0.66, 0.45), (0.72, 0.54, 0.33), tx.hsv(k / 3 + 0.02, 0.8, 0.7), text
            )
        )
        for k, text in enumerate("VOS")
    ]
    return CatalogueItem("block", "toy", 0.03, sh.box((0.1, 0.1, 0.1), faces * 2, cell_m=CELL_M))


def _bowl(rng: tx.Rng, palette: Palette) -> CatalogueItem:
    colors = [(0.96, 0.95, 0.9), tx.hsv((hue := palette.hue()) + 0.15, 0.5, 0.95)]
    skin = palette.add(tx.dots(rng, tx.hsv(hue, 0.6, 0.75), colors, 10))
    peel = palette.add(tx.plain(rng, tx.hsv(float(rng.uniform(0.02, 0.1)), 0.9, 0.9), 0.3))
    profile = [
        (0, 0),
        (0.04, 0),
        (0.042, 0.008),
        (0.072, 0.028),
        (0.095, 0.06),
        (0.102, 0.085),
        (0.097, 0.085),
        (0.089, 0.06),
        (0.068, 0.034),
        (0, 0.022),
    ]
    fruit = sh.revolve(
        sh.arc_profile(0.035, 0.035, -QUARTER_TURN, QUARTER_TURN, 12), peel, cell_m=CELL_M
    )
    return CatalogueItem(
        "bowl",
        "bowl",
        0.3,
        sh.merge(
            [
                sh.revolve(profile, skin, cell_m=CELL_M),
                *(
                    sh.move(fruit, sh.pose(0.038 * np.cos(a), 0.038 * np.sin(a), 0.032))
                    for a in (0.3, 2.4, 4.5)
                ),
            ]
        ),
    )


def _teapot(rng: tx.Rng, palette: Palette) -> CatalogueItem:
    enamel = palette.add(
        tx.dots(rng, tx.hsv(hue := palette.hue(), 0.65, 0.5), [(0.92, 0.92, 0.88)], 14)
    )
    trim = palette.add(tx.plain(rng, tx.hsv(hue, 0.7, 0.3)))
    body = [
        (0, 0),
        (0.052, 0),
        (0.07, 0.02),
        (0.083, 0.06),
        (0.075, 0.1),
        (0.05, 0.128),
        (0.02, 0.136),
        (0, 0.137),
    ]
    knob = sh.move(
        sh.revolve(
            sh.arc_profile(0.014, 0.014, -QUARTER_TURN, QUARTER_TURN, 8), trim, cell_m=0.005
        ),
        sh.pose(0, 0, 0.134),
    )
    handle = sh.move(
        sh.torus(0.042, 0.009, trim, cell_m=0.006, arc=(-1.6, 1.6)),
        sh.pose(0.072, 0, 0.07, 0, QUARTER_TURN),
    )
    tube = sh.revolve([(0.02, 0), (0.010, 0.10), (0.006, 0.10), (0.006, 0.06)], trim, cell_m=0.006)
    spout = sh.move(tube, sh.pose(-0.066, 0, 0.05, -QUARTER_TURN, 0.7))
    return CatalogueItem(
        "teapot",
        "pot",
        0.4,
        sh.merge([sh.revolve(body, enamel, cell_m=CELL_M), knob, handle, spout]),
    )
