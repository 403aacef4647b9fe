"""What can go wrong before and while the platform runs, in sentences that say what to do."""


class SupervisorError(Exception):
    """Stops the command with exit code 1; the message is all that the user sees."""


class EngineError(SupervisorError):
    """An engine cannot be prepared or started."""


class ScaleRefused(SupervisorError):
    """A process cannot have so many replicas."""


class Outdated(SupervisorError):
    """What a change was decided on is no longer so."""


class Unknown(SupervisorError):
    """Nothing here has that name."""


class NotUp(SupervisorError):
    """The platform is starting or stopping."""
