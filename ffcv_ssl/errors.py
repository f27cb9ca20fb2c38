"""Exception types of the package.

Every type derives from `FfcvSslError` and from the built-in exception that it refines.
"""


class FfcvSslError(Exception):
    """Base class of all exceptions that this package raises."""

    def __str__(self) -> str:  # KeyError would return the repr of the message
        return str(self.args[0]) if len(self.args) == 1 else super().__str__()


class BetonFormatError(FfcvSslError, ValueError):
    """The file violates the .beton format."""


class NotABetonFile(BetonFormatError):
    """The file is not a .beton file."""


class UnsupportedVersion(BetonFormatError):
    """The file has a format version or an extension that this package does not support."""


class TruncatedFile(BetonFormatError):
    """The file is shorter than its header, records and allocation table require."""


class UnknownFieldType(BetonFormatError):
    """A field descriptor has a type id that is not registered."""


class ChecksumError(BetonFormatError):
    """Stored bytes do not match their checksum."""


class FieldError(FfcvSslError, ValueError):
    """A field cannot be declared with these arguments, or a value does not fit its field."""


class FieldNotFound(FfcvSslError, KeyError):
    """The file has no field with this name."""


class SourceError(FfcvSslError, ValueError):
    """A source dataset does not have the layout or content that its kind requires."""


class ImageError(FfcvSslError, ValueError):
    """An image cannot be decoded or encoded, or its kind is not supported."""


class WriteError(FfcvSslError, RuntimeError):
    """Writing a .beton file failed; the message names the sample or the worker process."""


class PipelineError(FfcvSslError, ValueError):
    """A list of transforms cannot be planned; the message names the transform and the remedy."""


class SampleError(FfcvSslError, RuntimeError):
    """A sample could not be read, decoded or rendered.

    Parameters
    ----------
    message
        Description of the failure, with file, sample and field.
    sample_id
        Index of the sample in the file, >= 0; None if unknown.
    field
        Name of the field; None if unknown.
    """

    def __init__(
        self, message: str, sample_id: int | None = None, field: str | None = None
    ) -> None:
        super().__init__(message)
        self.sample_id = sample_id
        self.field = field


class LoaderClosed(FfcvSslError, RuntimeError):
    """The loader was closed while it was in use."""


class CheckpointError(FfcvSslError, RuntimeError):
    """A checkpoint or a saved loader state does not belong to this run."""


class TrainingStopped(FfcvSslError, RuntimeError):
    """Training ended before its last step.

    A signal, a loss that is not finite, or an error of the loader can stop training.

    Parameters
    ----------
    message
        Description of the cause, with the step and the last valid checkpoint.
    exit_status
        Exit status for the program: 128 plus the signal number, or 1.
    """

    def __init__(self, message: str, exit_status: int = 1) -> None:
        super().__init__(message)
        self.exit_status = exit_status


class ConfigError(FfcvSslError, ValueError):
    """A configuration value is missing, unknown or out of range."""


def describe_error(error: BaseException) -> str:
    """Return the message of an exception, preceded by its type unless this package raised it.

    Parameters
    ----------
    error
        Any exception.

    Examples
    --------
    >>> describe_error(KeyError("label")), describe_error(ImageError("the image is empty."))
    ("KeyError: 'label'", 'the image is empty.')
    """
    if isinstance(error, FfcvSslError):
        return str(error)
    return f"{type(error).__name__}: {error}"
