"""transformers' DistilBERT."""

from headstart.init.families.family import Family, heads_of
from headstart.init.roles import Table

DISTILBERT = Family(
    name="DistilBERT",
    sign=r"transformer\.layer\.0\.attention\.q_lin\.weight",
    table=Table("""
        embeddings.word_embeddings.weight       vocabulary hidden
        embeddings.position_embeddings.weight   positions hidden
        embeddings.LayerNorm.*                  hidden
        transformer.layer.#.attention.q_lin.*   query# <hidden | query#
        transformer.layer.#.attention.k_lin.*   key# <hidden | key#
        transformer.layer.#.attention.v_lin.*   value# <hidden | value#
        transformer.layer.#.attention.out_lin.* hidden <attended# | hidden
        transformer.layer.#.sa_layer_norm.*     hidden
        transformer.layer.#.ffn.lin1.*          inner# <hidden | inner#
        transformer.layer.#.ffn.lin2.*          hidden <inner# | hidden
        transformer.layer.#.output_layer_norm.* hidden
        vocab_transform.*                       hidden <hidden | hidden
        vocab_layer_norm.*                      hidden!
        vocab_projector.*                       vocabulary <hidden | vocabulary
        pre_classifier.*                        hidden <hidden | hidden
        classifier.*                            classes <hidden | classes
        qa_outputs.*                            classes <hidden | classes
    """),
    relatives=(frozenset({"distilbert"}),),
    heads=heads_of,
    tied=(r"vocab_projector\.weight", "embeddings.word_embeddings.weight"),
)
