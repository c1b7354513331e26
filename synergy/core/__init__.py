"""The pure core: values, rules and decisions, without input or output."""
