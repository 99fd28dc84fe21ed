"""Vision transformers: transformers' ViT, and timm's with queries, keys and values fused."""

from typing import Any

from headstart.init.families.family import Family, Heads, heads_of
from headstart.init.picking.grids import Grid, square
from headstart.init.roles import Table
from headstart.init.side import Side


def _grid(side: Side, positions: int) -> Grid | None:
    """As the configuration tells it; a square after the class token where it does not."""
    image, patch = (_pair(side.setting(name)) for name in ("image_size", "patch_size"))
    if image is not None and patch is not None:
        found = Grid(1, image[0] // patch[0], image[1] // patch[1])
        if found.positions == positions:
            return found
    return square(positions, 1)


def _pair(value: Any) -> tuple[int, int] | None:
    if isinstance(value, int):
        return value, value
    return (int(value[0]), int(value[1])) if isinstance(value, list | tuple) and len(value) == 2 else None


# As transformers before 5 had them in memory, and as all versions write them.
_OLDER = (
    (r"^encoder\.layer\.(\d+)\.", r"layers.\1."),
    (r"\.attention\.attention\.query\.", ".attention.q_proj."),
    (r"\.attention\.attention\.key\.", ".attention.k_proj."),
    (r"\.attention\.attention\.value\.", ".attention.v_proj."),
    (r"\.attention\.output\.dense\.", ".attention.o_proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
)

VIT = Family(
    name="ViT",
    sign=r"(?:layers\.0\.attention\.q_proj|encoder\.layer\.0\.attention\.attention\.query)\.weight",
    also=("embeddings.cls_token",),
    table=Table("""
        embeddings.cls_token                        . . hidden
        embeddings.mask_token                       . . hidden
        embeddings.position_embeddings              . grid hidden
        embeddings.patch_embeddings.projection.*    hidden . . . | hidden
        layers.#.attention.q_proj.*                 query# <hidden | query#
        layers.#.attention.k_proj.*                 key# <hidden | key#
        layers.#.attention.v_proj.*                 value# <hidden | value#
        layers.#.attention.o_proj.*                 hidden <attended# | hidden
        layers.#.layernorm_before.*                 hidden
        layers.#.layernorm_after.*                  hidden
        layers.#.mlp.fc1.*                          inner# <hidden | inner#
        layers.#.mlp.fc2.*                          hidden <inner# | hidden
        layernorm.*                                 hidden
        pooler.dense.*                              hidden <hidden | hidden
        classifier.*                                classes <hidden | classes
    """),
    relatives=(frozenset({"vit"}),),
    older=_OLDER,
    heads=heads_of,
    grid=_grid,
)


def _timm_heads(side: Side, hidden: int) -> Heads:
    """The heads of a model without configuration: its attention knows them."""
    if side.module is None:
        return heads_of(side, hidden)
    layer = side.names["blocks.0.attn.qkv.weight"].removesuffix(".qkv.weight")
    count = side.module.get_submodule(layer).num_heads
    assert isinstance(count, int)
    rows = side.shape("blocks.0.attn.qkv.weight")[0]
    return Heads(count, count, rows // (3 * count), normed="blocks.0.attn.q_norm.weight" in side.names)


def _timm_grid(side: Side, positions: int) -> Grid | None:
    """A module knows its grid; what is left of its positions are those of tokens before the patches."""
    size = getattr(getattr(side.owner("pos_embed"), "patch_embed", None), "grid_size", None)
    if size is None or size[0] * size[1] > positions:
        return None
    return Grid(positions - size[0] * size[1], size[0], size[1])


TIMM_VIT = Family(
    name="ViT of timm",
    sign=r"blocks\.0\.attn\.qkv\.weight",
    also=("patch_embed.proj.weight",),
    table=Table("""
        cls_token                   . . hidden
        reg_token                   . . hidden
        dist_token                  . . hidden
        pos_embed                   . grid hidden
        patch_embed.proj.*          hidden . . . | hidden
        norm_pre.*                  hidden
        blocks.#.norm1.*            hidden
        blocks.#.attn.qkv.*         query#+key#+value# <hidden | query#+key#+value#
        blocks.#.attn.q_norm.*      query_norm#
        blocks.#.attn.k_norm.*      key_norm#
        blocks.#.attn.proj.*        hidden <attended# | hidden
        blocks.#.ls1.gamma          hidden
        blocks.#.norm2.*            hidden
        blocks.#.mlp.fc1.*          inner# <hidden | inner#
        blocks.#.mlp.fc2.*          hidden <inner# | hidden
        blocks.#.ls2.gamma          hidden
        norm.*                      hidden
        fc_norm.*                   hidden
        head.*                      classes <hidden | classes
        head_dist.*                 classes <hidden | classes
    """),
    heads=_timm_heads,
    grid=_timm_grid,
)
