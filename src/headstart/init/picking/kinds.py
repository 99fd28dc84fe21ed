"""What kind of attention each layer has: over all positions, or over a window of them."""

from __future__ import annotations

from headstart.init.side import Side

_FULL, _WINDOW = "full_attention", "sliding_attention"
# Types whose layers all look at everything where their configuration names no window.
_BY_WINDOW = ("llama", "mistral", "qwen2", "qwen3")


def kinds_told(side: Side, layers: int) -> list[str] | None:
    """The kind of each layer, where the configuration lists them (`layer_types`) and there are as many."""
    told = side.setting("layer_types")
    return list(told) if told and len(told) == layers else None


def layer_kinds(side: Side, layers: int) -> list[str] | None:
    """The kind of each layer, as the configuration tells it; None: it does not.

    Versions of transformers tell it layer by layer (`layer_types`), or by what that is made of.

    Args:
        side: The model.
        layers: How many it has.

    Example:
        >>> layer_kinds(Side({}, {"global_attn_every_n_layers": 2}, "source"), 3)
        ['full_attention', 'sliding_attention', 'full_attention']
    """
    if side.setting("layer_types") is not None:
        return kinds_told(side, layers)
    every = side.setting("global_attn_every_n_layers")
    if every is not None:
        return [_WINDOW if layer % every else _FULL for layer in range(layers)]
    if side.setting("model_type") not in _BY_WINDOW:
        return None
    if side.setting("sliding_window") is None or side.setting("use_sliding_window") is False:
        return [_FULL] * layers
    begins = side.setting("max_window_layers") or 0
    return [_WINDOW if layer >= begins else _FULL for layer in range(layers)]
