"""What can become of a request."""


class RequestFailed(Exception):
    """The API server did not do what it was asked for."""


class Conflict(RequestFailed):
    """The object is not the one that was read, or is there already: read again, then decide again."""


class Refused(RequestFailed):
    """The request will not succeed however often it is repeated."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Away(RequestFailed):
    """The API server is overloaded, failing or silent: ask again after `retry_s` seconds. The request may have been carried out."""

    def __init__(self, message: str, retry_s: float) -> None:
        super().__init__(message)
        self.retry_s = retry_s


ODD = (LookupError, ValueError, TypeError, AttributeError, ArithmeticError)
"""What is raised where an object is not as its schema says, such as one of another version: it must not stop what is done for others."""


class NotLeading(RequestFailed):
    """This process may not write: the Lease is, or may be, another's."""
