"""Import of classifiers that other programs exported: their graph, wrapped into a model file."""
