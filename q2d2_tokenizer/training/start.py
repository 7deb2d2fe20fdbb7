"""Where a training begins: a config file, a checkpoint, the bundled one, with other levels if asked."""

from ..bundled import default_checkpoint
from ..configuration_q2d2 import Q2D2Config
from ..modeling_q2d2 import Q2D2Model


def make_codec(source: str, levels: list[int] | tuple[int, ...] = ()) -> Q2D2Model:
    """A codec to train.

    Args:
        source: Config file (random weights), checkpoint folder, "bundled", or "" (default config).
        levels: Instead of those of the source. Grids fill the same box whatever their levels, so a trained codec goes
            on from where it was, with finer or coarser points.

    Raises:
        ValueError: If there are not as many levels as channels.
    """
    if source == "bundled":
        source = default_checkpoint()
    if source and not source.endswith(".json"):
        codec = Q2D2Model.from_pretrained(source)
    else:
        codec = Q2D2Model(Q2D2Config.from_json_file(source) if source else Q2D2Config())
    if not levels:
        return codec
    if len(levels) != len(codec.config.levels):
        raise ValueError(f"levels must be {len(codec.config.levels)} numbers, one a channel, got {list(levels)}")
    weights = {name: tensor for name, tensor in codec.state_dict().items() if ".lattices." not in name}
    codec = Q2D2Model(Q2D2Config.from_dict(codec.config.to_dict() | {"levels": list(levels)}))
    codec.load_state_dict(weights, strict=False)  # what is missing is the tables of the new levels
    return codec
