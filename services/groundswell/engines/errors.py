"""What can go wrong before and while the platform runs, in sentences that say what to do."""


class SupervisorError(Exception):
    """Stops the command with exit code 1; the message is all that the user sees."""


class EngineError(SupervisorError):
    """An engine cannot be prepared or started."""
