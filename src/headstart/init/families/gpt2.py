"""transformers' GPT-2: weights lie with their inputs first (Conv1D); queries, keys and values are fused."""

from headstart.init.families.family import Family, heads_of
from headstart.init.roles import Table
from headstart.init.side import Side


def _otherwise(side: Side, prefix: str) -> str | None:
    """Linear layers by these names, as in nanoGPT and minGPT, have weights that lie the other way round."""
    shape = side.shape(f"{prefix}h.0.attn.c_attn.weight")
    if len(shape) != 2 or shape[0] != 3 * shape[1]:
        return None
    return (
        "has GPT-2's names, but weights that lie with their outputs first (nn.Linear, as in nanoGPT), where "
        "transformers' GPT-2 has the inputs first (Conv1D); transpose those of c_attn, c_proj and c_fc"
    )


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
    otherwise=_otherwise,
    tied=(r"lm_head\.weight", "wte.weight"),
)
