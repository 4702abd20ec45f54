"""The generated dashboards, rules and configuration, and `src`, which makes them."""
