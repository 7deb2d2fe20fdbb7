"""What can be wrong with a recording. `reason` is the short code under which a rejected row is counted."""


class AudioError(ValueError):
    """A recording that cannot be used."""

    reason = "unreadable"


class UnreadableAudioError(AudioError):
    """The file is damaged, cut off, missing, or of a format that is not read."""


class EmptyAudioError(AudioError):
    """There are no samples."""

    reason = "empty"


class NotFiniteAudioError(AudioError):
    """There are NaN or infinite samples."""

    reason = "not finite"


class LoudAudioError(AudioError):
    """The samples lie far above full scale, so they are of another scale."""

    reason = "too loud"


class SilentAudioError(AudioError):
    """The peak is too low."""

    reason = "silent"


class TooLongAudioError(AudioError):
    """The recording is longer than is taken."""

    reason = "too long"
