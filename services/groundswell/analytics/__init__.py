"""analytics — events in, exact numbers out, on a dashboard within a second.

Owns the collector with the request ids that were used, the raw events and their rollups, the live counters.  Serves
AnalyticsService, and to its own parts LiveService and StoreService.  Publishes analytics.frames.v1 (services of the platform write it
too), analytics.totals.v1.  Consumes its frames.
When the collector is down clients keep their batches; when the writer is, the log keeps everything for a week and questions answer
503; when the stream processor is, only the live stream pauses.
"""
