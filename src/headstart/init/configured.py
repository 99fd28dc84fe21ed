"""Where the configurations of two models of no known family differ: one cannot know which setting matters."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from headstart.init.picking.attention import settings_of
from headstart.init.side import Side

# What changes no output of a model that is not in training, or says nothing of the model's computation.
_HARMLESS = re.compile(
    r"_.*|architectures|auto_map|.*version|.*dtype|.*name_or_path|use_cache|output_.*|return_dict|problem_type|.*_ids?|"
    r"id2label|label2id|num_labels|.*drop(out|_path)?(_.*)?|.*_prob|.*initializer.*|gradient_checkpointing|"
    r"finetuning_task|task_specific_params|tokenizer_class|chunk_size_feed_forward|vocab_size"
)


def settings_differ(student: Side, source: Side, sizes: Collection[tuple[int, int]]) -> list[str]:
    """The settings in which two configurations differ, as a note; none where one of both tells nothing.

    Args:
        student: The student.
        source: The source.
        sizes: Pairs of sizes, the source's and the student's, that the tensors tell anyway.
    """
    new, old = settings_of(student.config), settings_of(source.config)
    found = [
        f"{key} ({_told(old[key])} in the source, {_told(new[key])} in the student)"
        for key in sorted(old)
        if new.get(key) is not None
        and old[key] is not None
        and new[key] != old[key]
        and not _HARMLESS.fullmatch(key)
        and not (isinstance(old[key], list) and len(old[key]) != len(new[key]))  # one for each layer, of another depth
        and not (isinstance(old[key], int) and isinstance(new[key], int) and (old[key], new[key]) in sizes)
    ]
    return [f"the configurations differ: {', '.join(found)}: outputs may not be preserved"] if found else []


def _told(value: Any) -> str:
    return str(value) if isinstance(value, str | int | float) else "another one"
