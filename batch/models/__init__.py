"""Models: the contract, its checks, the shipped models, and ensembles."""
