"""What can be wrong with a training run, apart from bugs.

TrainingError
├── ConfigError       a configuration file or override: names file, field and what is allowed
├── DatasetError      a data file: missing, unreadable, of another kind than wanted
└── CheckpointError   a checkpoint: incomplete, of another run, not loadable
"""


class TrainingError(Exception):
    """A mistake that the person who started the run can mend; its text says how."""


class ConfigError(TrainingError):
    pass


class DatasetError(TrainingError):
    pass


class CheckpointError(TrainingError):
    pass
