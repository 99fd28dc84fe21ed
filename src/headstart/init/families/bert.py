"""transformers' BERT and RoBERTa."""

from headstart.init.families.family import Family, heads_of
from headstart.init.roles import Table

BERT = Family(
    name="BERT",
    sign=r"encoder\.layer\.0\.attention\.self\.query\.weight",
    table=Table("""
        embeddings.word_embeddings.weight            vocabulary hidden
        embeddings.position_embeddings.weight        positions hidden
        embeddings.token_type_embeddings.weight      types hidden
        embeddings.LayerNorm.*                       hidden
        encoder.layer.#.attention.self.query.*       query# <hidden | query#
        encoder.layer.#.attention.self.key.*         key# <hidden | key#
        encoder.layer.#.attention.self.value.*       value# <hidden | value#
        encoder.layer.#.attention.output.dense.*     hidden <attended# | hidden
        encoder.layer.#.attention.output.LayerNorm.* hidden
        encoder.layer.#.intermediate.dense.*         inner# <hidden | inner#
        encoder.layer.#.output.dense.*               hidden <inner# | hidden
        encoder.layer.#.output.LayerNorm.*           hidden
        pooler.dense.*                               hidden <hidden | hidden
        cls.predictions.transform.dense.*            hidden <hidden | hidden
        cls.predictions.transform.LayerNorm.*        hidden!
        cls.predictions.decoder.*                    vocabulary <hidden | vocabulary
        cls.predictions.bias                         vocabulary
        cls.seq_relationship.*                       . <hidden | .
        lm_head.dense.*                              hidden <hidden | hidden
        lm_head.layer_norm.*                         hidden!
        lm_head.decoder.*                            vocabulary <hidden | vocabulary
        lm_head.bias                                 vocabulary
        classifier.dense.*                           hidden <hidden | hidden
        classifier.out_proj.*                        classes <hidden | classes
        classifier.*                                 classes <hidden | classes
        qa_outputs.*                                 classes <hidden | classes
    """),
    # RoBERTa's positions begin at another row, so that the two do not start from each other.
    relatives=(frozenset({"bert"}), frozenset({"roberta", "xlm-roberta", "camembert"})),
    heads=heads_of,
    older=((r"LayerNorm\.gamma$", "LayerNorm.weight"), (r"LayerNorm\.beta$", "LayerNorm.bias")),  # TensorFlow's
    tied=(r"(cls\.predictions|lm_head)\.decoder\.weight", "embeddings.word_embeddings.weight"),
)
