"""The parts of `restaurant_otel.cache`, one idea a module; apps import from there, not from here."""
