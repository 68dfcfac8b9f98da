"""Every error that the user of a command can fix; all others are bugs and keep their traceback.

    Mistake
    ├── ConfigError             a config is not valid
    ├── DataError               a folder of pictures cannot be used
    ├── DebianError             Debian's archive, a name of a package or the folder cannot be used
    ├── DivergedError           the losses are not finite any more
    ├── ProcessesDisagreeError  the processes of a run would not make the same update
    ├── RenderError             the folder, the number or the size of pictures cannot be used
    ├── SourcesError            a source of pictures to draw with is not installed
    └── StateError              a run's folder cannot be continued

Their text says what is wrong, and where it can the value, the limit and the way out. All but ConfigError are where they
are raised.
"""


class Mistake(Exception):
    """Something that the user of a command can fix; the text says what."""


class ConfigError(Mistake, ValueError):
    """A config is not valid; the text names the value and the limit."""
