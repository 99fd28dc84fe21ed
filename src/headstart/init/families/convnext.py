"""timm's ConvNeXt: stages joined by projections, one norm over the channels of a stage in each block."""

from headstart.init.families.family import Family, Joins
from headstart.init.roles import Table
from headstart.init.side import Side


def _joins(side: Side) -> Joins:
    last = max(int(name.split(".")[1]) for name in side.names if name.startswith("stages."))
    return Joins({"last": f"stage{last}"})


CONVNEXT = Family(
    name="ConvNeXt",
    sign=r"stages\.0\.blocks\.0\.conv_dw\.weight",
    table=Table("""
        stem.0.*                            stage0 . . . | stage0
        stem.1.*                            stage0
        stages.@.downsample.0.*             stage@-
        stages.@.downsample.1.*             stage@ <stage@- . . | stage@
        stages.@.blocks.#.conv_dw.*         stage@ . . . | stage@
        stages.@.blocks.#.norm.*            stage@
        stages.@.blocks.#.mlp.fc1.*         inner@# <stage@ . . | inner@# <stage@ | inner@#
        stages.@.blocks.#.mlp.grn.*         inner@#
        stages.@.blocks.#.mlp.fc2.*         stage@ <inner@# . . | stage@ <inner@# | stage@
        stages.@.blocks.#.gamma             stage@
        norm_pre.*                          last
        head.norm.*                         last
        head.fc.*                           classes <last | classes
    """),
    joins=_joins,
)
