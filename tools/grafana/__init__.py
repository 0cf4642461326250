"""What tools/grafana_dashboards.py writes: a file a dashboard, by the metrics of docs/metrics.md."""
