-- The tables of a store before hours without countries and hours of items, as writers made them then.

CREATE DATABASE IF NOT EXISTS analytics;

CREATE TABLE IF NOT EXISTS analytics.ev (
    ts DateTime64(3, 'UTC') CODEC(Delta, LZ4), kind LowCardinality(String), tenant UInt64, item UInt64, user UInt64,
    network UInt32, country UInt16, device UInt8, flags UInt8, value Float64, props String, name String, _p UInt8, _o UInt64 CODEC(Delta, LZ4), _t DateTime('UTC') CODEC(Delta, LZ4),
    INDEX by_offset _o TYPE minmax GRANULARITY 16
) ENGINE = MergeTree PARTITION BY (_p, if(bitAnd(flags, 2) = 0, intDiv(toUnixTimestamp(ts), 3600), 0)) ORDER BY (tenant, kind, item, ts)
TTL _t + INTERVAL 31 DAY SETTINGS non_replicated_deduplication_window = 20000, min_parts_to_merge_at_once = 20;

CREATE TABLE IF NOT EXISTS analytics.frames (
    tenant UInt64, _p UInt8, _o UInt64 CODEC(Delta, LZ4), _t DateTime('UTC') CODEC(Delta, LZ4), producer UInt64, seq UInt64, accepted UInt32, parked UInt32, duplicate UInt8
) ENGINE = MergeTree ORDER BY (tenant, _p, _o) TTL _t + INTERVAL 31 DAY SETTINGS non_replicated_deduplication_window = 20000, min_parts_to_merge_at_once = 20;

CREATE TABLE IF NOT EXISTS analytics.batches (digest FixedString(16), _p UInt8, _o UInt64 CODEC(Delta, LZ4), _t DateTime('UTC') CODEC(Delta, LZ4))
ENGINE = MergeTree ORDER BY (_p, digest) TTL _t + INTERVAL 9 DAY SETTINGS non_replicated_deduplication_window = 20000, min_parts_to_merge_at_once = 20;

CREATE TABLE IF NOT EXISTS analytics.parked (tenant UInt64, ts DateTime64(3, 'UTC'), kind String, props String, _p UInt8, _o UInt64 CODEC(Delta, LZ4), _t DateTime('UTC') CODEC(Delta, LZ4))
ENGINE = MergeTree ORDER BY (tenant, ts) TTL _t + INTERVAL 31 DAY SETTINGS non_replicated_deduplication_window = 20000, min_parts_to_merge_at_once = 20;

CREATE TABLE IF NOT EXISTS analytics.ev_1s (
    _p UInt8, tenant UInt64, kind LowCardinality(String), at DateTime('UTC'), country UInt16, device UInt8, bot UInt8, events SimpleAggregateFunction(sum, UInt64), value SimpleAggregateFunction(sum, Float64),
    users AggregateFunction(uniqCombined64(14), UInt64), w SimpleAggregateFunction(max, UInt64)
) ENGINE = AggregatingMergeTree PARTITION BY _p ORDER BY (tenant, kind, at, country, device, bot)
TTL at + INTERVAL 31 DAY WHERE tenant != 0 SETTINGS non_replicated_deduplication_window = 20000, min_parts_to_merge_at_once = 20, index_granularity_bytes = 262144;

CREATE TABLE IF NOT EXISTS analytics.ev_1m (
    _p UInt8, tenant UInt64, kind LowCardinality(String), at DateTime('UTC'), country UInt16, device UInt8, bot UInt8, events SimpleAggregateFunction(sum, UInt64), value SimpleAggregateFunction(sum, Float64),
    users AggregateFunction(uniqCombined64(14), UInt64), w SimpleAggregateFunction(max, UInt64)
) ENGINE = AggregatingMergeTree PARTITION BY _p ORDER BY (tenant, kind, at, country, device, bot)
TTL at + INTERVAL 90 DAY WHERE tenant != 0 SETTINGS non_replicated_deduplication_window = 20000, min_parts_to_merge_at_once = 20, index_granularity_bytes = 262144;

CREATE TABLE IF NOT EXISTS analytics.ev_1h (
    _p UInt8, tenant UInt64, kind LowCardinality(String), at DateTime('UTC'), country UInt16, device UInt8, bot UInt8, events SimpleAggregateFunction(sum, UInt64), value SimpleAggregateFunction(sum, Float64),
    users AggregateFunction(uniqCombined64(14), UInt64), w SimpleAggregateFunction(max, UInt64)
) ENGINE = AggregatingMergeTree PARTITION BY _p ORDER BY (tenant, kind, at, country, device, bot)
TTL at + INTERVAL 1098 DAY WHERE tenant != 0 SETTINGS non_replicated_deduplication_window = 20000, min_parts_to_merge_at_once = 20, index_granularity_bytes = 262144;

CREATE TABLE IF NOT EXISTS analytics.item_1m (
    _p UInt8, tenant UInt64, kind LowCardinality(String), hour DateTime('UTC'), item UInt64, at DateTime('UTC'), bot UInt8,
    name SimpleAggregateFunction(max, String), events SimpleAggregateFunction(sum, UInt64), value SimpleAggregateFunction(sum, Float64),
    users AggregateFunction(uniqCombined64(14), UInt64), w SimpleAggregateFunction(max, UInt64)
) ENGINE = AggregatingMergeTree PARTITION BY _p ORDER BY (tenant, kind, hour, item, at, bot)
TTL at + INTERVAL 90 DAY WHERE tenant != 0 SETTINGS non_replicated_deduplication_window = 20000, min_parts_to_merge_at_once = 20;

CREATE TABLE IF NOT EXISTS analytics.item_totals (
    _p UInt8, tenant UInt64, kind LowCardinality(String), item UInt64, events SimpleAggregateFunction(sum, UInt64),
    nonbots SimpleAggregateFunction(sum, UInt64), w SimpleAggregateFunction(max, UInt64)
) ENGINE = AggregatingMergeTree PARTITION BY _p ORDER BY (tenant, kind, item) SETTINGS non_replicated_deduplication_window = 20000, min_parts_to_merge_at_once = 20;

ALTER TABLE analytics.frames ADD PROJECTION IF NOT EXISTS marks (SELECT _p, intDiv(_o, 65536), producer, max(seq) GROUP BY _p, intDiv(_o, 65536), producer);

ALTER TABLE analytics.frames ADD INDEX IF NOT EXISTS by_offset _o TYPE minmax GRANULARITY 1;

CREATE TABLE IF NOT EXISTS analytics.by_time AS analytics.ev_1s ENGINE = Null;

CREATE MATERIALIZED VIEW IF NOT EXISTS analytics.ev_1s_added TO analytics.ev_1s AS SELECT * FROM analytics.by_time;

CREATE MATERIALIZED VIEW IF NOT EXISTS analytics.ev_1m_added TO analytics.ev_1m AS 
SELECT _p, tenant, kind, toStartOfMinute(part.at) AS at, country, device, bot, sum(part.events) AS events, sum(part.value) AS value, uniqCombined64MergeState(14)(part.users) AS users, max(part.w) AS w
FROM analytics.by_time AS part GROUP BY _p, tenant, kind, at, country, device, bot;

CREATE MATERIALIZED VIEW IF NOT EXISTS analytics.ev_1h_added TO analytics.ev_1h AS 
SELECT _p, tenant, kind, toStartOfHour(part.at) AS at, country, device, bot, sum(part.events) AS events, sum(part.value) AS value, uniqCombined64MergeState(14)(part.users) AS users, max(part.w) AS w
FROM analytics.by_time AS part GROUP BY _p, tenant, kind, at, country, device, bot;

CREATE TABLE IF NOT EXISTS analytics.by_item AS analytics.item_1m ENGINE = Null;

CREATE MATERIALIZED VIEW IF NOT EXISTS analytics.item_1m_added TO analytics.item_1m AS SELECT * FROM analytics.by_item;

CREATE MATERIALIZED VIEW IF NOT EXISTS analytics.item_totals_added TO analytics.item_totals AS 
SELECT _p, tenant, kind, item, sum(part.events) AS events, sumIf(part.events, bot = 0) AS nonbots, max(part.w) AS w
FROM analytics.by_item AS part GROUP BY _p, tenant, kind, item;
