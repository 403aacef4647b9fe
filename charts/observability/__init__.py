"""What the platform's metrics mean to whoever is on call: objectives, alerts and dashboards, as data.

`make observability` writes them into the chart, as Prometheus' rules and Grafana's dashboards; `make check` says what is stale.
They are committed, so that a clone needs nothing and a review shows what a change does to an alert. Every expression adds up over
processes and keeps `namespace` apart, so nothing depends on how a Prometheus names its jobs.
"""
