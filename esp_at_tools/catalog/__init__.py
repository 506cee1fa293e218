"""What exists: chips, their GPIOs, country codes; read from ``module_config/``."""
