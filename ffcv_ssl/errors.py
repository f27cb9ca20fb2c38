"""Every exception type of the package: each refines `FfcvSslError` and the builtin it is a case of."""


class FfcvSslError(Exception):
    """Base of all errors raised on purpose; its text is the message alone."""

    def __str__(self) -> str:  # KeyError would print repr()
        return str(self.args[0]) if len(self.args) == 1 else super().__str__()


class BetonFormatError(FfcvSslError, ValueError):
    """The file breaks the .beton format."""


class NotABetonFile(BetonFormatError):
    """The file is not a .beton file at all."""


class UnsupportedVersion(BetonFormatError):
    """The file has a format version or extension that this package does not read."""


class TruncatedFile(BetonFormatError):
    """The file ends before one of its sections does."""


class UnknownFieldType(BetonFormatError):
    """A field descriptor names a type that is not registered."""


class ChecksumError(BetonFormatError):
    """Stored bytes differ from their checksum."""


class FieldError(FfcvSslError, ValueError):
    """A field cannot be declared as asked, or a value does not fit its field."""


class FieldNotFound(FfcvSslError, KeyError):
    """A field name that the file does not have."""


class SourceError(FfcvSslError, ValueError):
    """A dataset to convert is not what its source name says."""


class ImageError(FfcvSslError, ValueError):
    """An image cannot be decoded, or is of a kind that is not supported."""


class WriteError(FfcvSslError, RuntimeError):
    """A conversion ended without a file; the message names the sample or the worker."""


class PipelineError(FfcvSslError, ValueError):
    """A pipeline cannot be planned; the message names the transform and what to do."""


class SampleError(FfcvSslError, RuntimeError):
    """A sample could not be read, decoded or rendered.

    Parameters
    ----------
    message
        What happened, with file, sample and field.
    sample_id
        Position of the sample in the file.
    field
        Name of the field.
    """

    def __init__(self, message: str, sample_id: int | None = None, field: str | None = None):
        super().__init__(message)
        self.sample_id = sample_id
        self.field = field


class LoaderClosed(FfcvSslError, RuntimeError):
    """The loader was closed while it was still in use."""


class CheckpointError(FfcvSslError, RuntimeError):
    """A checkpoint or saved loader state does not belong to this run."""


class TrainingStopped(FfcvSslError, RuntimeError):
    """A training run ended before its last step: a signal, a loss that is not finite, an error of the loader.

    Parameters
    ----------
    message
        What happened, at which step, and which checkpoint is good.
    exit_status
        Of the program: 128 + the signal's number, else 1.
    """

    def __init__(self, message: str, exit_status: int = 1):
        super().__init__(message)
        self.exit_status = exit_status


class ConfigError(FfcvSslError, ValueError):
    """A configuration value is missing, unknown or out of range."""
