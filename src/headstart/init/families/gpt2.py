"""transformers' GPT-2: weights lie with their inputs first (Conv1D); queries, keys and values are fused."""

from headstart.init.families.family import Family, heads_of
from headstart.init.roles import Table

GPT2 = Family(
    name="GPT-2",
    sign=r"h\.0\.attn\.c_attn\.weight",
    table=Table("""
        wte.weight              vocabulary hidden
        wpe.weight              positions hidden
        h.#.ln_1.*              hidden
        h.#.attn.c_attn.*       <hidden query#+key#+value# | query#+key#+value#
        h.#.attn.c_proj.*       <attended# hidden | hidden
        h.#.ln_2.*              hidden
        h.#.mlp.c_fc.*          <hidden inner# | inner#
        h.#.mlp.c_proj.*        <inner# hidden | hidden
        ln_f.*                  hidden!
        lm_head.weight          vocabulary <hidden
        score.weight            classes <hidden
    """),
    relatives=(frozenset({"gpt2"}),),
    heads=heads_of,
    tied=(r"lm_head\.weight", "wte.weight"),
)
