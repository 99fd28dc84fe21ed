"""transformers' ModernBERT: queries, keys and values fused, gated units in halves, rotary positions."""

from headstart.init.families.family import Family, Heads, heads_of
from headstart.init.roles import Table
from headstart.init.side import Side


def _heads(side: Side, hidden: int) -> Heads:
    return heads_of(side, hidden, rotary=True)


MODERNBERT = Family(
    name="ModernBERT",
    sign=r"layers\.0\.attn\.Wqkv\.weight",
    table=Table("""
        embeddings.tok_embeddings.weight   vocabulary hidden
        embeddings.norm.*                  hidden
        layers.#.attn_norm.*               hidden
        layers.#.attn.Wqkv.*               query#+key#+value# <hidden | query#+key#+value#
        layers.#.attn.Wo.*                 hidden <attended# | hidden
        layers.#.mlp_norm.*                hidden
        layers.#.mlp.Wi.*                  inner#+inner# <hidden | inner#+inner#
        layers.#.mlp.Wo.*                  hidden <inner# | hidden
        final_norm.*                       hidden
        head.dense.*                       hidden <hidden | hidden
        head.norm.*                        hidden!
        decoder.*                          vocabulary <hidden | vocabulary
        classifier.*                       classes <hidden | classes
    """),
    relatives=(frozenset({"modernbert"}),),
    heads=_heads,
    first_is_bare=True,
    tied=(r"decoder\.weight", "embeddings.tok_embeddings.weight"),
)
