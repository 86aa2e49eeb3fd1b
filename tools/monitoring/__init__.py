"""Try the chart's alerts and dashboard: a real Prometheus scrapes real workers."""
