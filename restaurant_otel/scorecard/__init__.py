"""The parts behind `restaurant_otel.scoring`.

`formula` is the arithmetic, `advice` the recommendations, `files` reads objectives and advice from TOML; readings come
from `cells` (this app's workers, kept by `keeper`) or from `fleet` (anything that answers as Prometheus does);
`forecast` looks ahead.
"""
