"""Models: the contract and its checks, shipped models, ensembles and fusion."""
