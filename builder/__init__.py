"""er, the EasyRunner bootstrapper: one YAML file in, a hardened web host out."""

__version__ = "0.1.0"
