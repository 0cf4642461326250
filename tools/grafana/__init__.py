"""What tools/grafana_dashboards.py writes: a dashboard a module, by the metrics of docs/metrics.md."""
