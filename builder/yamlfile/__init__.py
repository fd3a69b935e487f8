"""YAML files: source reads one by parser, scalars says what a plain value is, places where a value was written."""
