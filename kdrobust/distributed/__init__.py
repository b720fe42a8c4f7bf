"""Several processes: the launcher that starts them from the job's own config, and the samplers that feed them."""

from kdrobust.distributed.processes import evaluation_shard, join_ranks, world_size
from kdrobust.distributed.sampler import ShuffledBatches, UnpaddedDistributedSampler, position
from kdrobust.distributed.sharding import shard_frozen
from kdrobust.distributed.strategy import ConfigDDPStrategy, SameConfig, finish_ranks, start_ranks

__all__ = [
    "ConfigDDPStrategy",
    "SameConfig",
    "ShuffledBatches",
    "UnpaddedDistributedSampler",
    "evaluation_shard",
    "finish_ranks",
    "join_ranks",
    "position",
    "shard_frozen",
    "start_ranks",
    "world_size",
]
