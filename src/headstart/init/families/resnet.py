"""Residual networks: ours for small images, torchvision's and timm's, of basic or of bottleneck blocks.

Others by the same names, which call a projection at a shortcut `shortcut`, are of the family too; those that normalise
before each convolution have no `bn1` after the first one, and are none.
"""

import re

from headstart.init.families.family import Family, Joins
from headstart.init.roles import Table
from headstart.init.side import Side


def _joins(side: Side) -> Joins:
    """A shortcut without parameters joins its ends; where it adds channels, the old ones lie in the middle."""
    stages = sorted({int(name[5]) for name in side.names if name[:5] == "layer" and name[5:6].isdigit()})
    projected = {name[5] for name in side.names if re.match(r"layer\d\.0\.(downsample|shortcut)\.", name)}
    plain = [stage for stage in stages if str(stage) not in projected]
    aliases, nested, last = {"last": f"stage{stages[-1]}"}, {}, side.shape("bn1.weight")[0]
    for stage in stages:
        width = _width(side, stage)
        if stage in plain and width == last:
            aliases[f"stage{stage}"] = aliases.get(f"stage{stage - 1}", f"stage{stage - 1}")
        elif stage in plain:
            nested[f"stage{stage}"] = aliases.get(f"stage{stage - 1}", f"stage{stage - 1}")
        last = width
    aliases["last"] = aliases.get(aliases["last"], aliases["last"])
    return Joins(aliases, nested)


def _width(side: Side, stage: int) -> int:
    bottleneck = f"layer{stage}.0.conv3.weight"
    return side.shape(bottleneck if bottleneck in side.names else f"layer{stage}.0.conv2.weight")[0]


_AROUND = """
    conv1.weight                     stage0 . . .
    bn1.*                            stage0
    layer@.#0.conv1.weight           inner@# <stage@- . .
    layer@.#.conv1.weight            inner@# <stage@ . .
    layer@.#.bn1.*                   inner@#
    layer@.#.downsample.*.*          stage@ <stage@- . . | stage@
    layer@.#.shortcut.*.*            stage@ <stage@- . . | stage@
    fc.*                             classes <last | classes
    linear.*                         classes <last | classes
"""

BASIC = Family(
    name="ResNet of basic blocks",
    sign=r"layer1\.0\.conv2\.weight",
    also=("bn1.weight",),
    table=Table(f"""
        {_AROUND}
        layer@.#.conv2.weight        stage@ <inner@# . .
        layer@.#.bn2.*               stage@
    """),
    joins=_joins,
    norms=False,  # of each channel alone
    first_is_special=True,
    closing=r"layer\d+\.\d+\.bn2\.(weight|bias)",
)

BOTTLENECK = Family(
    name="ResNet of bottleneck blocks",
    sign=r"layer1\.0\.conv3\.weight",
    also=("bn1.weight",),
    table=Table(f"""
        {_AROUND}
        layer@.#.conv2.weight        middle@# <inner@# . .
        layer@.#.bn2.*               middle@#
        layer@.#.conv3.weight        stage@ <middle@# . .
        layer@.#.bn3.*               stage@
    """),
    joins=_joins,
    norms=False,  # of each channel alone
    first_is_special=True,
    closing=r"layer\d+\.\d+\.bn3\.(weight|bias)",
)
