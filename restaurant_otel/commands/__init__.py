"""The commands of ``restaurant-otel``, one a module; `restaurant_otel.cli` names them and loads what is asked for."""
