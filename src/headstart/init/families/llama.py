"""transformers' Llama and its kin: grouped queries, rotary positions, gated units, heads tied or not."""

from headstart.init.families.family import Family, Heads, heads_of
from headstart.init.roles import Table
from headstart.init.side import Side


def _heads(side: Side, hidden: int) -> Heads:
    return heads_of(side, hidden, rotary=True, normed="layers.0.self_attn.q_norm.weight" in side.names)


LLAMA = Family(
    name="Llama",
    sign=r"layers\.0\.self_attn\.q_proj\.weight",
    table=Table("""
        embed_tokens.weight                    vocabulary hidden
        layers.#.input_layernorm.*             hidden
        layers.#.self_attn.q_proj.*            query# <hidden | query#
        layers.#.self_attn.k_proj.*            key# <hidden | key#
        layers.#.self_attn.v_proj.*            value# <hidden | value#
        layers.#.self_attn.o_proj.*            hidden <attended# | hidden
        layers.#.self_attn.q_norm.weight       query_norm#
        layers.#.self_attn.k_norm.weight       key_norm#
        layers.#.post_attention_layernorm.*    hidden
        layers.#.mlp.gate_proj.*               inner# <hidden | inner#
        layers.#.mlp.up_proj.*                 inner# <hidden | inner#
        layers.#.mlp.down_proj.*               hidden <inner# | hidden
        norm.weight                            hidden!
        lm_head.weight                         vocabulary <hidden
        score.weight                           classes <hidden
    """),
    relatives=(frozenset({"llama", "mistral", "qwen2", "qwen3"}),),
    heads=_heads,
    tied=(r"lm_head\.weight", "embed_tokens.weight"),
)
