"""The families whose tensors' roles are known, each by its table."""

from headstart.init.families.bert import BERT
from headstart.init.families.convnext import CONVNEXT
from headstart.init.families.distilbert import DISTILBERT
from headstart.init.families.family import Family
from headstart.init.families.gpt2 import GPT2
from headstart.init.families.llama import LLAMA
from headstart.init.families.modernbert import MODERNBERT
from headstart.init.families.resnet import BASIC, BOTTLENECK
from headstart.init.families.vit import TIMM_VIT, VIT

# The first one whose sign is found: bottleneck blocks have all that basic ones have.
FAMILIES: tuple[Family, ...] = (
    BERT,
    DISTILBERT,
    MODERNBERT,
    GPT2,
    LLAMA,
    VIT,
    TIMM_VIT,
    CONVNEXT,
    BOTTLENECK,
    BASIC,
)
