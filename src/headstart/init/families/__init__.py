"""The families whose tensors' roles are known, each by its table."""

from headstart.init.families.bert import BERT
from headstart.init.families.family import Family
from headstart.init.families.llama import LLAMA
from headstart.init.families.modernbert import MODERNBERT
from headstart.init.families.resnet import BASIC, BOTTLENECK

# The first one whose sign is found: bottleneck blocks have all that basic ones have.
FAMILIES: tuple[Family, ...] = (BERT, MODERNBERT, LLAMA, BOTTLENECK, BASIC)
