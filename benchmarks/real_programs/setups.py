"""All set-ups, in the order of the table."""

from __future__ import annotations

from real_programs.image_scripts import IMAGES, MASKED_IMAGES
from real_programs.loops import LIGHTNING, NANOGPT, TIMM
from real_programs.program import Refused, Setup
from real_programs.text_scripts import LANGUAGE
from real_programs.trainer_scripts import CLASSIFYING, DEFAULT_LOSS
from real_programs.trl_scripts import TRL

SETUPS: list[Setup] = [*LANGUAGE, *CLASSIFYING, *IMAGES, *TRL, LIGHTNING, NANOGPT, *TIMM]
REFUSED: list[Refused] = [DEFAULT_LOSS, MASKED_IMAGES]
