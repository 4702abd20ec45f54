"""Real servers, real clients: the promises that only hold if everything works together."""
