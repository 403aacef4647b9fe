"""What can go wrong with events and questions about them, in words for the caller."""

from groundswell.kernel import errors


class BatchSizeInvalid(errors.Invalid):
    def __init__(self, most: int) -> None:
        super().__init__(f"A batch has 1 to {most:,} events. Split it.", field="events")


class OutcomeUnknown(errors.Unavailable):
    def __init__(self) -> None:
        super().__init__(
            "The log has not acknowledged this batch in time. Send it again unchanged, with the same request_id: it counts once.",
            retry_after_s=1.0,
        )


class IntakeFull(errors.Unavailable):
    def __init__(self) -> None:
        super().__init__(
            "The intake is full because the log is away. Send the batch again, with the same request_id.",
            retry_after_s=5.0,
        )


class QueryInvalid(errors.Invalid):
    """A question that cannot be answered as it stands; the field says where."""


class QueryTooExpensive(errors.Exhausted):
    def __init__(self) -> None:
        super().__init__(
            "This query takes more time or memory than one may. Ask for a shorter range, fewer dimensions or a coarser interval.",
            retry_after_s=1.0,
        )


class TooManyQueries(errors.Exhausted):
    def __init__(self, at_once: int) -> None:
        super().__init__(f"A tenant may run {at_once} queries at once. Try again in a second.", retry_after_s=1.0)


class StoreBusy(errors.Unavailable):
    """Rollups moved at every try, so no answer was known to be exact."""

    def __init__(self) -> None:
        super().__init__("The store is being written to faster than it can be read. Try again.", retry_after_s=1.0)
